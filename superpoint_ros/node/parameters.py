"""Read parameters as ROS 2 does: from parameters files, and from `-p name:=value` on the command line."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from superpoint_ros.node import interface, parameter_yaml
from superpoint_ros.node.declarations import ParameterError, ParameterTable, Qos

_QOS = "qos_overrides."


@dataclass(frozen=True)
class NodeParameters:
    """The parameters that a user sets for a node.

    Attributes:
        values: validated values of the node's own parameters, by name.
        qos_overrides: values of QoS overrides by their full names.
        warning: one sentence about unknown names under wildcards, or empty.
    """

    values: dict[str, Any]
    qos_overrides: dict[str, Any]
    warning: str


def read_parameters(
    params_files: Iterable[str | Path],
    assignments: Iterable[str],
    full_name: str,
    table: ParameterTable = interface.TABLE,
) -> NodeParameters:
    """Read the parameters of a node; later files override earlier ones, and assignments override files.

    Args:
        params_files: ROS 2 parameters files.
        assignments: texts such as "max_keypoints:=500", "/superpoint_detector:max_keypoints:=500".
        full_name: namespace and name of the node, as in "/front/superpoint_detector"; sections and assignments are
            matched with the wildcards of ROS 2: `*` for one part of the name, `/**` for any number.
        table: the node's parameters.

    Raises:
        ParameterError: if a file cannot be read or is not a parameters file, an assignment is malformed, a value is
            invalid, or a name set for this node, not under a wildcard, is unknown.
    """
    values: dict[str, Any] = {}
    explicit: set[str] = set()
    for path in params_files:
        for pattern, found in load_file(path, full_name):
            values.update(found)
            explicit |= set() if "*" in pattern else set(found)
    for pattern, name, value in parse_assignments(assignments, full_name):
        values[name] = value
        explicit |= set() if "*" in pattern else {name}
    own = {name: value for name, value in values.items() if not is_standard_parameter(name)}
    unknown = [name for name in own if name not in table and name not in explicit]
    known = table.checked({name: value for name, value in own.items() if name not in unknown})
    qos_overrides = {name: value for name, value in values.items() if name.startswith(_QOS)}
    return NodeParameters(known, qos_overrides, describe_unknown(unknown, table))


def is_standard_parameter(name: str) -> bool:
    """Tell whether a parameter is declared by every ROS 2 node, and so written by `ros2 param dump`."""
    return name.startswith(_QOS) or name in ("use_sim_time", "start_type_description_service")


def describe_unknown(names: Sequence[str], table: ParameterTable = interface.TABLE) -> str:
    """Describe unknown parameters in one sentence; empty if there are none."""
    if not names:
        return ""
    known = [parameter.name for parameter in table]
    close = {name: difflib.get_close_matches(name, known, 1) for name in names}
    listed = (f"'{name}'" + (f" (did you mean '{close[name][0]}'?)" if close[name] else "") for name in names)
    return f"parameters that the node does not have are ignored: {', '.join(listed)}"


def names_set_explicitly(arguments: Sequence[str], full_name: str) -> set[str]:
    """List the parameters that ROS 2 command-line arguments set for this node by name, not under a wildcard.

    An assignment without a node name is for every node; launch files use it to set parameters of all of them.
    """
    names: set[str] = set()
    for option, value in pairwise(arguments):
        try:
            if option == "--params-file":
                sections = load_file(value, full_name)
            elif option in ("-p", "--param") and ":" in value.partition(":=")[0]:
                sections = [(pattern, {name: 0}) for pattern, name, _ in parse_assignments([value], full_name)]
            else:
                continue
        except ParameterError:  # not in ROS 2's form, so not a ROS argument
            continue
        names |= {name for pattern, found in sections if "*" not in pattern for name in found}
    return names


def load_file(path: str | Path, full_name: str) -> list[tuple[str, dict[str, Any]]]:
    """Read the sections of a ROS 2 parameters file that match a node: pattern, and values by dotted name.

    Raises:
        ParameterError: if the file cannot be read or is not a parameters file.
    """
    try:
        tree = parameter_yaml.load(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"parameters file '{path}' cannot be read: {error}") from error
    except ValueError as error:
        raise ParameterError(f"parameters file '{path}' is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ParameterError(f"parameters file '{path}' contains no node section such as '/**:'")
    found = _sections(tree, "", path)
    return [(pattern, _flatten(parameters, "")) for pattern, parameters in found if _matches(pattern, full_name)]


def parse_assignments(assignments: Iterable[str], full_name: str) -> list[tuple[str, str, Any]]:
    """Parse the assignments for a node: name pattern (its own name if there is none), parameter name and value.

    Raises:
        ParameterError: if an assignment is malformed.
    """
    found = []
    for text in assignments:
        name, separator, value = text.partition(":=")
        node, colon, rest = name.rpartition(":")
        if not separator or not rest or (colon and not node):
            raise ParameterError(f"parameter assignment '{text}' is not of the form name:=value")
        if colon and node != full_name.rpartition("/")[2] and not _matches(node, full_name):
            continue
        try:
            parsed = parameter_yaml.load(value)
        except ValueError as error:
            raise ParameterError(f"value '{value}' of parameter '{rest}' is not YAML") from error
        if parsed is None:
            raise ParameterError(f"parameter assignment '{text}' contains no value")
        found.append((node or full_name, rest, parsed))
    return found


def apply_qos_overrides(qos: Qos, overrides: Mapping[str, Any], topic: str, kind: str) -> Qos:
    """Apply overrides such as "qos_overrides./image.subscription.reliability" to a topic's quality of service.

    Args:
        topic: full name of the topic.
        kind: publisher or subscription.

    Raises:
        ParameterError: if an override has a value that is not allowed.
    """
    prefix = f"{_QOS}{topic}.{kind}."
    for name, value in overrides.items():
        if not name.startswith(prefix):
            continue
        policy = name.removeprefix(prefix)
        if policy == "reliability" and value in ("reliable", "best_effort"):
            qos = replace(qos, reliable=value == "reliable")
        elif policy == "depth" and isinstance(value, int) and value > 0:
            qos = replace(qos, depth=value)
        elif (policy, value) not in (("history", "keep_last"), ("durability", "volatile")):
            allowed = "reliability reliable or best_effort, depth from 1, history keep_last, durability volatile"
            raise ParameterError(f"parameter '{name}' is {value!r}, allowed is {allowed}")
    return qos


def _sections(tree: Mapping[str, Any], prefix: str, path: str | Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, node in tree.items():
        name = f"{prefix}/{str(key).strip('/')}"
        if not isinstance(node, dict):
            raise ParameterError(f"parameters file '{path}': section '{key}' contains no 'ros__parameters'")
        if "ros__parameters" in node:
            if not isinstance(node["ros__parameters"], dict):
                raise ParameterError(
                    f"parameters file '{path}': 'ros__parameters' of '{key}' contains no names with values"
                )
            yield name, node["ros__parameters"]
        yield from _sections({k: v for k, v in node.items() if k != "ros__parameters"}, name, path)


def _matches(pattern: str, full_name: str) -> bool:
    """Match a name against a pattern with ROS 2's wildcards for its parts."""

    def match(wanted: list[str], parts: list[str]) -> bool:
        if not wanted:
            return not parts
        if wanted[0] == "**":
            return any(match(wanted[1:], parts[i:]) for i in range(len(parts) + 1))
        return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and match(wanted[1:], parts[1:])

    wanted = pattern.strip("/").split("/")
    return match(wanted, full_name.strip("/").split("/")) or wanted == ["**"]


def _flatten(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            values.update(_flatten(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = value
    return values
