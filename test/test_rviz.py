"""config/superpoint.rviz, which `rviz:=true` opens: topics, view and window layout."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import yaml

from superpoint_ros.node import interface

LEFT, SHOWN = 0, 1
"""Of Qt: a window's left side, and the flag of a dock widget that is not hidden."""


@pytest.fixture(scope="module")
def config(project):
    return yaml.safe_load((project / "config" / "superpoint.rviz").read_text(encoding="utf-8"))


@pytest.fixture
def displays(config):
    """The displays by name."""
    return {display["Name"]: display for display in config["Visualization Manager"]["Displays"]}


def areas(state: bytes) -> dict[int, tuple[int, dict[str, tuple[int, int]]]]:
    """Width of each side's docks in a QMainWindow's saved state, and flags and height of each dock by name."""
    data, at, found = state[state.index(b"\xfd") + 1 :], 4, {}
    for _ in range(struct.unpack_from(">i", data)[0]):
        side, width, _, marker, _, docks = struct.unpack_from(">iiiBBi", data, at)
        assert marker == 0xFC  # one below the other
        at, inside = at + 18, {}
        for _ in range(docks):
            marker, length = struct.unpack_from(">BI", data, at)
            assert marker == 0xFB
            name = data[at + 5 : at + 5 + length].decode("utf-16-be")
            flags, _, height = struct.unpack_from(">Bii", data, at + 5 + length)
            at += 5 + length + 17
            inside[name] = (flags, height)
        found[side] = (width, inside)
    return found


def test_every_display_of_a_topic_shows_one_of_the_nodes_with_any_publisher(displays):
    topics = {
        topic.name.replace("~", interface.NODE_NAME): topic.type.rpartition("/")[2] for topic in interface.OUTPUTS
    }
    shown = [display for display in displays.values() if "Topic" in display]
    assert {display["Class"].rpartition("/")[2] for display in shown} == {"Image", "PointCloud2"}
    for display in shown:
        assert topics[display["Topic"]["Value"]] == display["Class"].rpartition("/")[2]
        assert display["Topic"]["Reliability Policy"] == "Best Effort"
        assert display["Enabled"]


def test_the_view_is_along_the_cameras_axis_with_the_image_upright(config):
    view = config["Visualization Manager"]["Views"]["Current"]
    assert (view["Class"], view["Invert Z Axis"]) == ("rviz_default_plugins/Orbit", False)
    yaw, pitch, focus = view["Yaw"], view["Pitch"], np.array([view["Focal Point"][axis] for axis in "XYZ"])
    away = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    eye, forward = focus + view["Distance"] * away, -away
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    # Optical frames: x to the right, y down, z forward; rays end at z = 1.
    np.testing.assert_allclose([right, np.cross(forward, right), forward], np.eye(3), atol=2e-3)
    np.testing.assert_allclose(eye, [0, 0, -1], atol=3e-3)


def test_the_image_takes_half_of_the_window_and_the_cloud_the_other(config, displays):
    window = config["Window Geometry"]
    sides = areas(bytes.fromhex(window["QMainWindow State"]))
    width, docks = sides[LEFT]
    assert list(docks) == ["Annotated image", "Displays"]
    assert "Annotated image" in displays
    assert width == pytest.approx(window["Width"] / 2, rel=0.02)
    (image_flags, height), (panel_flags, below) = docks.values()
    assert image_flags & panel_flags & SHOWN
    assert height > 2 * below and height >= 0.75 * width - 20  # 4:3
    others = [flags for side, (_, inside) in sides.items() if side != LEFT for flags, _ in inside.values()]
    assert not any(flags & SHOWN for flags in others)
