"""The rules of docs/design.md for the structure of the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "superpoint_ros"
MODULES = sorted(PACKAGE.rglob("*.py"))

VALUES = {"features", "compute", "io"}
LIBRARY = VALUES | {"two_view", "extraction"}
NODE = LIBRARY | {"frontend", "adapters", "node"}
CORE = NODE | {"odometry"}
MAY_IMPORT: dict[str, set[str]] = {
    "features": set(),
    "compute": set(),
    "io": set(),
    "simulation": VALUES,
    "two_view": VALUES,
    "extraction": VALUES | {"two_view"},
    "frontend": LIBRARY,
    "adapters": LIBRARY | {"frontend"},
    "node": LIBRARY | {"frontend", "adapters"},
    "odometry": NODE,
    "hosts/ros2": CORE | {"msg"},
    "hosts/local": NODE,
    "hosts/wire": NODE,
    "hosts/dds": CORE | {"hosts/wire"},
    "hosts/bag": CORE | {"hosts/wire"},
    "training": LIBRARY | {"hosts/bag"},
    "evaluation": CORE | {"hosts/local", "simulation", "hosts/bag", "training"},
    "benchmark": CORE | {"hosts/wire", "hosts/dds"},
    "demo": CORE | {"simulation", "hosts/wire", "hosts/dds", "evaluation"},
    "commands": CORE | {"hosts/local", "hosts/dds", "hosts/bag", "training", "evaluation", "benchmark", "demo"},
}
"""What each folder may import, from the lowest to the highest; no folder imports a higher one."""


def room(parts: tuple[str, ...]) -> str:
    """Return the folder of a module, given the parts of its name below the package; each host is a separate one."""
    if parts[0] == "cli":
        return "commands"
    return "/".join(parts[:2]) if parts[0] == "hosts" and len(parts) > 1 else parts[0]


def imports(path: Path) -> set[str]:
    """List the full names of everything that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_imports() -> dict[str, set[str]]:
    """Return the folders that each folder imports; names of the package count for the folder that defines them."""
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    exported = dict(re.findall(r"from superpoint_ros\.(\S+) import \(?([\w, ]+)", source))
    origin = {name.strip(): module for module, names in exported.items() for name in names.split(",")}
    found: dict[str, set[str]] = {}
    for path in MODULES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] in ("__init__", "__main__") or parts == ("hosts", "__init__"):
            continue
        own = found.setdefault(room(parts), set())
        for name in imports(path):
            package, *rest = name.split(".")
            if package == "superpoint_ros" and rest and rest != ["__version__"]:
                own.add(room(tuple(origin[rest[0]].split(".")) if rest[0] in origin else tuple(rest)))
        own.discard(room(parts))
    return found


def users(*roots: str) -> set[str]:
    """List the modules that import something below these names."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if any(name == root or name.startswith(root + ".") for name in imports(path) for root in roots)
    }


@pytest.mark.parametrize("name", sorted(room_imports()))
def test_a_folder_imports_only_folders_below_it(name):
    assert room_imports()[name] <= MAY_IMPORT[name]


def test_the_rules_themselves_have_no_cycle():
    order = list(MAY_IMPORT)
    for name, allowed in MAY_IMPORT.items():
        assert all(order.index(other) < order.index(name) for other in allowed - {"msg"})


def test_only_the_ros_2_host_imports_ros():
    found = users("rclpy", "cv_bridge", "sensor_msgs_py", "sensor_msgs", "std_msgs", "std_srvs", "diagnostic_msgs")
    assert found
    assert all(name.startswith("hosts/ros2/") for name in found)


def test_only_the_dds_host_imports_cyclonedds():
    found = users("cyclonedds")
    assert found
    assert all(name.startswith("hosts/dds/") for name in found)


def test_only_the_hosts_without_ros_2_import_rosbags():
    found = users("rosbags")
    assert found
    assert all(name.startswith(("hosts/wire/", "hosts/dds/", "hosts/bag/")) for name in found)


def reduced(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the transitive reduction of a graph."""

    def reach(name: str) -> set[str]:
        return {far for near in graph.get(name, ()) for far in {near} | reach(near)}

    return {
        (name, other)
        for name, others in graph.items()
        for other in others
        if not any(other in reach(between) for between in others - {other})
    }


def test_the_diagram_of_the_design_shows_the_imports_of_the_code():
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", (PROJECT / "docs" / "design.md").read_text("utf-8"), re.DOTALL)
    names = dict(re.findall(r'^\s*(\w+)\["([\w/]+)', diagram, re.MULTILINE))
    drawn = {(names[a], names[b]) for a, b in re.findall(r"^\s*(\w+) --> (\w+)$", diagram, re.MULTILINE)}
    graph = {name: others - {"msg"} for name, others in room_imports().items()}
    assert set(names.values()) == set(graph)
    assert drawn == reduced(graph)


def test_the_package_has_few_top_level_entries():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20
    assert sum(path.is_file() for path in entries) <= 6


def test_importing_the_package_alone_does_not_import_pytorch():
    code = "import sys, superpoint_ros; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md"))])
def test_documents_import_from_the_package_itself(document):
    text = (PROJECT / document).read_text(encoding="utf-8")
    deeper = re.findall(r"(?:from|import) (superpoint_ros\.\w[\w.]*)", text)
    assert set(deeper) <= {"superpoint_ros.msg"}


def test_every_exported_name_can_be_imported():
    import superpoint_ros

    for name in superpoint_ros.__all__:
        assert getattr(superpoint_ros, name) is not None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 310
