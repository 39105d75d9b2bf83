"""The launch file as users start it, for tests with launch_testing."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import launch_testing.actions
import rclpy
from ament_index_python.packages import get_package_share_directory
from launch.launch_description_sources import PythonLaunchDescriptionSource

import launch


def detector(namespace: str, file: str = "detector.launch.py", **arguments: str) -> launch.LaunchDescription:
    """`ros2 launch superpoint_ros FILE namespace:=... argument:=...`"""
    path = Path(get_package_share_directory("superpoint_ros")) / "launch" / file
    # On a loaded machine the gaps between images are longer than a camera's, which is not tested here.
    parameters = Path(tempfile.mkdtemp()) / "parameters.yaml"
    parameters.write_text(f"/{namespace}/superpoint_detector:\n  ros__parameters:\n    max_gap: 600.0\n")
    given = {"namespace": namespace, "params_file": str(parameters), **arguments}
    included = launch.actions.IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(path)), launch_arguments=given.items()
    )
    return launch.LaunchDescription([included, launch_testing.actions.ReadyToTest()])


class WithContext(unittest.TestCase):
    """Tests with their own rclpy context."""

    @classmethod
    def setUpClass(cls):
        cls.context = rclpy.Context()
        rclpy.init(context=cls.context)

    @classmethod
    def tearDownClass(cls):
        rclpy.shutdown(context=cls.context)
