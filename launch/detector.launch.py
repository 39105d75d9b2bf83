"""Start the detector, and RViz where wished: `ros2 launch superpoint_ros detector.launch.py image:=/camera/image`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node

from launch import LaunchDescription

SHARE = Path(get_package_share_directory("superpoint_ros"))


def _sibling(image: LaunchConfiguration, name: str) -> PythonExpression:
    """The topic `name` beside the image topic, where image_transport looks for it."""
    return PythonExpression(["'", image, "'.rpartition('/')[0] + ('/' if '/' in '", image, f"' else '') + '{name}'"])


def generate_launch_description() -> LaunchDescription:
    image = LaunchConfiguration("image")
    namespace = LaunchConfiguration("namespace")
    arguments = [
        DeclareLaunchArgument("image", default_value="image", description="image topic to subscribe to"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
        DeclareLaunchArgument(
            "params_file", default_value=str(SHARE / "config" / "detector.yaml"), description="parameters file"
        ),
        DeclareLaunchArgument("rviz", default_value="false", description="start RViz", choices=["true", "false"]),
        DeclareLaunchArgument(
            "frame_id", default_value="camera", description="fixed frame of RViz: the frame_id of the images"
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            description="least severity of log messages",
            choices=["debug", "info", "warn", "error", "fatal"],
        ),
    ]
    detector = Node(
        package="superpoint_ros",
        executable="detector",
        name="superpoint_detector",
        namespace=namespace,
        parameters=[LaunchConfiguration("params_file")],
        remappings=[
            ("image", image),
            ("camera_info", _sibling(image, "camera_info")),
        ],
        arguments=["--ros-args", "--log-level", ["superpoint_detector:=", LaunchConfiguration("log_level")]],
        output="screen",
        emulate_tty=True,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        namespace=namespace,
        arguments=["-d", str(SHARE / "config" / "superpoint.rviz"), "-f", LaunchConfiguration("frame_id")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments, detector, rviz])
