"""Start the detector and, optionally, RViz: `ros2 launch superpoint_ros detector.launch.py image:=/camera/image`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("superpoint_ros"))


def _remappings(image: str) -> list[tuple[str, str]]:
    """Remap the image topic, and `camera_info` to the topic next to it, as in image_transport."""
    folder, slash, _ = image.rpartition("/")
    return [("image", image), ("camera_info", f"{folder}{slash}camera_info")]


def _detector(context: LaunchContext) -> list[Node]:
    image = LaunchConfiguration("image").perform(context)
    cameras = LaunchConfiguration("cameras").perform(context).replace(",", " ").split()
    parameters: list = [LaunchConfiguration("params_file")]
    remappings = _remappings(image)
    if cameras:
        if image.startswith("/"):
            raise ValueError(f"image is '{image}', with cameras it is relative to each of them, as in 'image_rect'")
        parameters.append({"cameras": cameras})
        remappings = [(f"{camera}/{old}", f"{camera}/{new}") for camera in cameras for old, new in remappings]
    return [
        Node(
            package="superpoint_ros",
            executable="detector",
            name="superpoint_detector",
            namespace=LaunchConfiguration("namespace"),
            parameters=parameters,
            remappings=remappings,
            arguments=["--ros-args", "--log-level", ["superpoint_detector:=", LaunchConfiguration("log_level")]],
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("image", default_value="image", description="image topic to subscribe to"),
        DeclareLaunchArgument(
            "cameras",
            default_value="",
            description="names of several cameras, as in 'left right'; image is then relative to each",
        ),
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
            description="minimum severity of log messages",
            choices=["debug", "info", "warn", "error", "fatal"],
        ),
    ]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(SHARE / "config" / "superpoint.rviz"), "-f", LaunchConfiguration("frame_id")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=_detector), rviz])
