"""The rules of docs/design.md that keep the house in order."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "superpoint_ros"
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = ("features", "network", "weights", "decoding", "decoding_cpu", "corners", "fixed", "calibration", "runtimes",
        "superpoint", "pyramid", "matching", "similarity", "openvino_models", "reprojection", "alignment",
        "homography", "geometry", "tracking", "timing", "blas", "frontend", "interface", "files")  # fmt: skip


def imports(path: Path) -> set[str]:
    """Full names of everything that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def users(*roots: str) -> set[str]:
    """Which modules import something below these names."""
    return {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(name == root or name.startswith(root + ".") for name in imports(path) for root in roots)
    }


def test_only_the_ros_node_imports_ros():
    assert users("rclpy", "cv_bridge", "sensor_msgs_py", "sensor_msgs") == {"ros_node.py"}


def test_only_the_standalone_host_imports_dds():
    found = users("cyclonedds")
    assert found
    assert all(name.startswith("standalone/") for name in found)


def test_only_the_standalone_host_and_recordings_import_rosbags():
    assert {name for name in users("rosbags") if not name.startswith("standalone/")} == {"bags.py"}


def test_training_does_not_import_evaluation():
    assert not {name for name in users("superpoint_ros.evaluation") if name.startswith("training/")}


def test_the_core_imports_no_host_no_command_no_training_and_no_evaluation():
    outside = [f"superpoint_ros.{name}" for name in ("ros_node", "standalone", "demo", "benchmark", "cli", "commands",
               "training", "evaluation", "detector")]  # fmt: skip
    assert not {name for name in users(*outside) if name.removesuffix(".py").split("/")[0] in CORE}


def test_the_hosts_do_not_know_each_other():
    assert users("superpoint_ros.ros_node") == set()
    assert "ros_node.py" not in users("superpoint_ros.standalone")


def test_importing_the_package_alone_does_not_import_pytorch():
    code = "import sys, superpoint_ros; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_small_enough_to_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 310
