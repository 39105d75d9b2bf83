"""Start the detector and the odometry on it: `ros2 launch superpoint_ros odometry.launch.py image:=/camera/image`.

For a stereo pair: `stereo:=true left:=/left/image_rect right:=/right/image_rect`.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("superpoint_ros"))
SHARED = ("namespace", "params_file", "log_level")


def _nodes(context: LaunchContext) -> list:
    stereo = LaunchConfiguration("stereo").perform(context) == "true"
    file, images = ("stereo.launch.py", ("left", "right")) if stereo else ("detector.launch.py", ("image",))
    given = {name: LaunchConfiguration(name) for name in (*images, *SHARED)}
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / file)), launch_arguments=given.items()
    )
    # camera_info is next to the image, as in image_transport.
    folder, slash, _ = LaunchConfiguration(images[0]).perform(context).rpartition("/")
    camera = "left/" if stereo else ""
    odometry = Node(
        package="superpoint_ros",
        executable="odometry",
        name="superpoint_odometry",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("odometry_params_file"),
            {"stereo": stereo, "camera": "left" if stereo else "none"},
        ],
        remappings=[(f"{camera}camera_info", f"{folder}{slash}camera_info")],
        arguments=["--ros-args", "--log-level", ["superpoint_odometry:=", LaunchConfiguration("log_level")]],
        output="screen",
        emulate_tty=True,
    )
    return [detector, odometry]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("image", default_value="image", description="image topic of a single camera"),
        DeclareLaunchArgument(
            "stereo", default_value="false", description="whether there is a pair", choices=["true", "false"]
        ),
        DeclareLaunchArgument("left", default_value="left/image", description="image topic of a pair's left camera"),
        DeclareLaunchArgument("right", default_value="right/image", description="image topic of a pair's right camera"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes"),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(SHARE / "config" / "detector.yaml"),
            description="parameters file of the detector",
        ),
        DeclareLaunchArgument(
            "odometry_params_file",
            default_value=str(SHARE / "config" / "odometry.yaml"),
            description="parameters file of the odometry",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            description="minimum severity of log messages",
            choices=["debug", "info", "warn", "error", "fatal"],
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])
