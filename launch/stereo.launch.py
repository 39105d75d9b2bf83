"""Start the detector on a stereo pair: `ros2 launch superpoint_ros stereo.launch.py left:=/left/image right:=...`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

SHARE = Path(get_package_share_directory("superpoint_ros"))
SIDES = ("left", "right")


def _detector(context: LaunchContext) -> list[Node]:
    parameters: dict = {"cameras": list(SIDES), "stereo": True}
    slop = LaunchConfiguration("stereo_slop").perform(context)
    if slop:
        parameters["stereo_slop"] = float(slop)
    remappings = []
    for side in SIDES:
        image = LaunchConfiguration(side).perform(context)
        # camera_info is next to the image, as in image_transport.
        folder, slash, _ = image.rpartition("/")
        remappings += [(f"{side}/image", image), (f"{side}/camera_info", f"{folder}{slash}camera_info")]
    return [
        Node(
            package="superpoint_ros",
            executable="detector",
            name="superpoint_detector",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), parameters],
            remappings=remappings,
            arguments=["--ros-args", "--log-level", ["superpoint_detector:=", LaunchConfiguration("log_level")]],
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(side, default_value=f"{side}/image", description=f"image topic of the {side} camera")
        for side in SIDES
    ]
    arguments += [
        DeclareLaunchArgument(
            "stereo_slop",
            default_value="",
            description="maximum difference between the stamps of a pair, in seconds; by default that of params_file",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
        DeclareLaunchArgument(
            "params_file", default_value=str(SHARE / "config" / "detector.yaml"), description="parameters file"
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            description="minimum severity of log messages",
            choices=["debug", "info", "warn", "error", "fatal"],
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_detector)])
