"""The Python packages of the nodes on ROS 2: each is installed by rosdep or by the README's pip commands."""

from __future__ import annotations

import re

import pytest

ROSDEP = {"pytorch": "torch", "yaml": "pyyaml", "opencv": "opencv-python-headless"}
"""Names on PyPI, where those of rosdep differ."""


@pytest.fixture
def rosdep(project):
    """What package.xml has rosdep install."""
    keys = re.findall(r"<exec_depend>python3-(.+?)(?:-pip)?</", (project / "package.xml").read_text(encoding="utf-8"))
    return {ROSDEP.get(key, key) for key in keys}


def pip(project, heading):
    """What the README has pip install under a heading, without versions."""
    section = (project / "README.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.search(r"^pip install ([^#\n]+)", section, re.MULTILINE)[1].split())


def requirements(project, pattern):
    """The names of a list of requirements in setup.py, those of named lists included."""
    source = (project / "setup.py").read_text(encoding="utf-8")
    text = re.search(pattern, source, re.DOTALL)[1] + re.search(r"^OPENVINO = (.+)$", source, re.MULTILINE)[1]
    return set(re.findall(r'"([\w-]+)>=', text))


def test_the_detector_s_packages_are_from_rosdep_or_from_pip(project, rosdep):
    by_pip = pip(project, "With ROS 2")
    assert not by_pip & rosdep
    # Only commands draw with rich.
    assert requirements(project, r"install_requires=\[(.*?)\n    \]") - {"rich"} <= by_pip | rosdep


def test_the_odometry_needs_only_what_the_detector_s_commands_have_not_installed(project, rosdep):
    earlier, by_pip = pip(project, "With ROS 2") | rosdep, pip(project, "Odometry")
    assert not by_pip & earlier
    assert requirements(project, r'"odometry": \[(.*?)\]') <= by_pip | earlier
