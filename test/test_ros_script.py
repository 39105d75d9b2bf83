"""scripts/test_ros.sh, which `make test-ros` calls, with absent, incomplete and complete ROS 2 installs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

TOOLS = {"rmw_cyclonedds_cpp"}


@pytest.fixture
def run(project, tmp_path):
    """Run the script on an install with these packages; colcon, if present, fails with exit code 3."""

    def run(packages, colcon=True):
        index = tmp_path / "ros" / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True)
        for package in packages:
            (index / package).touch()
        setup = tmp_path / "ros" / "setup.bash"
        setup.write_text(f"export AMENT_PREFIX_PATH={tmp_path}/another:{tmp_path}/ros\n")
        tools = tmp_path / "tools"
        tools.mkdir()
        # Arguments of `colcon --log-base FOLDER build`; its help must work.
        code = '[ "$1" = --help ] || { echo "colcon $3"; exit 3; }' if colcon else "exit 127"
        (tools / "colcon").write_text(f"#!/bin/sh\n{code}\n")
        (tools / "colcon").chmod(0o755)
        return subprocess.run(
            ["bash", "-c", 'PATH="$1:$PATH" exec scripts/test_ros.sh "$2"', "-", tools, setup],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def needed(project):
    """Return the ROS packages in package.xml."""
    found = re.findall(r"<\w*depend>([^<]+)</", (project / "package.xml").read_text(encoding="utf-8"))
    return {name for name in found if not name.startswith("python3-")}


def test_without_an_install_the_tests_are_skipped_in_one_line(project):
    done = subprocess.run(["scripts/test_ros.sh", ""], cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "test-ros skipped: no ROS 2 install found (/opt/ros/*/setup.bash)\n"


def test_an_incomplete_install_is_skipped_with_the_names_of_missing_packages(run, needed, tmp_path):
    done = run(needed - {"cv_bridge", "ros2launch"})
    assert (done.returncode, done.stderr) == (0, "")
    lacking = "cv_bridge, ros2launch, rmw_cyclonedds_cpp or rmw_fastrtps_cpp"
    assert done.stdout == f"test-ros skipped: {tmp_path}/ros lacks {lacking}\n"


def test_an_install_without_colcon_is_skipped(run, needed, tmp_path):
    done = run(needed | TOOLS, colcon=False)
    assert (done.returncode, done.stdout) == (0, f"test-ros skipped: {tmp_path}/ros lacks colcon\n")


def test_with_a_complete_install_the_package_is_built_and_a_failing_build_is_an_error(run, needed):
    done = run((needed | TOOLS) - {"rviz2"})
    assert (done.returncode, done.stdout) == (3, "colcon build\n")


def test_package_xml_names_what_the_launch_files_import_and_start(project, needed):
    used = set()
    for path in (project / "launch").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
        used |= set(re.findall(r'package="(\w+)"', text))
    assert {"launch_ros", "rviz2", "superpoint_ros"} < used
    assert used - set(sys.stdlib_module_names) - {"superpoint_ros"} <= needed
