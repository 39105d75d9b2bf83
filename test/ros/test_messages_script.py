"""benchmarks/ros_messages.py measures real messages between rclpy processes, with and without the Fast DDS profile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs a ROS 2 install in the environment (make test-ros)")

pytestmark = pytest.mark.ros


@pytest.fixture
def figures(project):
    """Run the script with additional environment variables; return its first line, and rows by descriptor type."""

    def run(**environ):
        command = [sys.executable, project / "benchmarks" / "ros_messages.py", "--messages", "20"]
        done = subprocess.run(
            command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:])
        return lines[0], {row[0]: dict(zip(heads, row, strict=True)) for row in rows}

    return run


def assert_received(row):
    """A subscriber that the machine stalls for longer than its queue lasts loses messages: keep-last, as specified."""
    received, sent = (int(number) for number in row["received"].split(" of "))
    assert sent == 20
    assert received >= 15


def test_messages_arrive_and_float16_halves_the_bytes(figures):
    title, rows = figures()
    assert title == f"{rclpy.get_rmw_implementation_identifier()}, 1000 keypoints"
    for row in rows.values():
        assert_received(row)
    sizes = {kind: int(row["bytes"].replace(",", "")) for kind, row in rows.items()}
    assert sizes["float32"] - sizes["float16"] == 1000 * 256 * 2
    for row in rows.values():
        # The message may have arrived before `publish` returns.
        assert 0 < float(row["fill ms"]) < float(row["total ms"])


def test_with_the_shipped_profile_fast_dds_takes_half_the_time(figures, project):
    if rclpy.get_rmw_implementation_identifier() != "rmw_fastrtps_cpp":
        pytest.skip("the profile is for rmw_fastrtps_cpp")
    without, profile = figures()[1], str(project / "config" / "fastdds.xml")
    given = figures(FASTRTPS_DEFAULT_PROFILES_FILE=profile)[1]
    assert_received(given["float32"])
    assert float(given["float32"]["total ms"]) < 0.5 * float(without["float32"]["total ms"])  # usual: 0.3
