"""Parameters as ROS 2 passes them: a parameters file, and `-p name:=value` on the command line."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from superpoint_ros.node.interface import ParameterError, Qos, checked

_QOS = "qos_overrides."


def load_file(path: str | Path, full_name: str) -> dict[str, Any]:
    """Parameters of a node in a ROS 2 parameters file, by dotted name; later matching sections win.

    Args:
        full_name: namespace and name of the node, as in "/front/superpoint_detector"; sections are matched with the
            wildcards of ROS 2: `*` for one part of the name, `/**` for any number.

    Raises:
        ParameterError: if the file cannot be read or is no parameters file.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"parameters file '{path}' cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ParameterError(f"parameters file '{path}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ParameterError(f"parameters file '{path}' holds no node section such as '/**:'")
    values: dict[str, Any] = {}
    for pattern, parameters in _sections(tree, "", path):
        if _matches(pattern, full_name):
            values.update(_flat(parameters, ""))
    return values


def parse_assignments(assignments: Iterable[str], node_name: str) -> dict[str, Any]:
    """Parameters from texts such as "max_keypoints:=500" or "superpoint_detector:max_keypoints:=500".

    Raises:
        ParameterError: if a text is of another form.
    """
    values = {}
    for text in assignments:
        name, separator, value = text.partition(":=")
        node, colon, rest = name.rpartition(":")
        if not separator or not rest:
            raise ParameterError(f"parameter assignment '{text}' is not of the form name:=value")
        if colon and node != node_name:
            continue
        try:
            values[rest] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ParameterError(f"value '{value}' of parameter '{rest}' is not YAML") from error
    return values


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node's own parameters, checked, and the overrides of topics' quality of service.

    Raises:
        ParameterError: for an unknown name or a bad value.
    """
    own = {name: value for name, value in values.items() if not name.startswith(_QOS) and name != "use_sim_time"}
    if values.get("use_sim_time", False) is not False:
        raise ParameterError("parameter 'use_sim_time' is set, allowed without ROS 2 is false")
    return checked(own), {name: value for name, value in values.items() if name.startswith(_QOS)}


def overridden(qos: Qos, overrides: Mapping[str, Any], topic: str, kind: str) -> Qos:
    """A topic's quality of service after overrides such as "qos_overrides./image.subscription.reliability".

    Args:
        topic: its full name.
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
            raise ParameterError(f"parameters file '{path}': section '{key}' holds no 'ros__parameters'")
        if "ros__parameters" in node:
            yield name, node["ros__parameters"] or {}
        yield from _sections({k: v for k, v in node.items() if k != "ros__parameters"}, name, path)


def _matches(pattern: str, full_name: str) -> bool:
    """ROS 2's wildcards on parts of names."""

    def match(wanted: list[str], parts: list[str]) -> bool:
        if not wanted:
            return not parts
        if wanted[0] == "**":
            return any(match(wanted[1:], parts[i:]) for i in range(len(parts) + 1))
        return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and match(wanted[1:], parts[1:])

    wanted = pattern.strip("/").split("/")
    return match(wanted, full_name.strip("/").split("/")) or wanted == ["**"]


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            values.update(_flat(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = value
    return values
