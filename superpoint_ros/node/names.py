"""Names of nodes and topics, and their remapping, by the rules of ROS 2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from superpoint_ros.node.errors import StandaloneError

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_LENGTH = 255 - len("rt")
_NODE_KEYS = ("__node", "__name")
_NAMESPACE_KEY = "__ns"
_SCHEME = "rostopic://"


def check_node_name(name: str) -> str:
    """Return `name` if it is a valid node name.

    Raises:
        StandaloneError: if it is not.
    """
    if not _TOKEN.fullmatch(name) or len(name) > _MAX_LENGTH:
        raise StandaloneError(
            f"node name {name!r} is invalid, allowed are letters, digits and underscores, not starting with a digit"
        )
    return name


def check_namespace(namespace: str) -> str:
    """Return `namespace` with its leading slash, as in "/" or "/robot/front".

    Raises:
        StandaloneError: if a part of it is not a valid name.
    """
    absolute = namespace if namespace.startswith("/") else "/" + namespace
    if absolute != "/" and not _valid_path(absolute):
        raise StandaloneError(
            f"namespace {namespace!r} is invalid, allowed are names of letters, digits and underscores, "
            "not starting with a digit, joined by single slashes"
        )
    return absolute


def expand(topic: str, name: str, namespace: str) -> str:
    """Expand `topic` to an absolute name, for the node `name` in `namespace`.

    "image" becomes "/ns/image", "~/features" becomes "/ns/name/features", "/image" is unchanged; "{node}", "{ns}" and
    "{namespace}" are substituted.

    Raises:
        StandaloneError: if `topic` is not a valid topic name.
    """
    expanded = topic.replace("{node}", name)
    for key in ("{ns}", "{namespace}"):
        expanded = expanded.replace(key, namespace.strip("/"))
    prefix = "" if namespace == "/" else namespace
    if expanded == "~" or expanded.startswith("~/"):
        expanded = f"{prefix}/{name}{expanded[1:]}"
    elif not expanded.startswith("/"):
        expanded = f"{prefix}/{expanded}"
    if not topic or not _valid_path(expanded):
        raise StandaloneError(
            f"topic name {topic!r} is invalid, allowed are names of letters, digits and underscores, not starting "
            "with a digit, joined by single slashes, after an optional leading '/' or '~/'"
        )
    return expanded


def parse_remappings(rules: Iterable[str]) -> dict[str, str]:
    """Parse rules "from:=to", as after `-r` on a ROS 2 command line, into a mapping in the same order.

    The first of several rules for the same name wins, as in ROS 2.

    Raises:
        StandaloneError: if a rule is not of that form.
    """
    mapping: dict[str, str] = {}
    for rule in rules:
        source, separator, target = rule.partition(":=")
        if not separator or not source or not target:
            raise StandaloneError(f"remapping {rule!r} is invalid, allowed is from:=to, as in image:=/camera/image_raw")
        mapping.setdefault(source, target)
    return mapping


class NameRules:
    """The naming rules of one node: its name, its namespace and the remappings that apply to it.

    Raises:
        StandaloneError: for an invalid name, namespace or remapping.
    """

    def __init__(self, name: str, namespace: str = "/", remappings: Mapping[str, str] | None = None) -> None:
        check_node_name(name)
        rules = dict(_rules_for(name, remappings or {}))
        self.name = check_node_name(next((rules[key] for key in _NODE_KEYS if key in rules), name))
        self.namespace = check_namespace(rules.get(_NAMESPACE_KEY, namespace))
        self._topics: dict[str, str] = {}
        for source, target in rules.items():
            if source.startswith("__"):
                if source not in (*_NODE_KEYS, _NAMESPACE_KEY):
                    raise StandaloneError(
                        f"remapping {source}:={target} is invalid, allowed with a leading '__' are __node, __name and "
                        "__ns"
                    )
                continue
            self._topics.setdefault(
                self._expand_rule(source, source, target), self._expand_rule(target, source, target)
            )

    @property
    def full_name(self) -> str:
        """Return namespace and name, as in "/robot/superpoint_detector"."""
        return f"{self.namespace.rstrip('/')}/{self.name}"

    def resolve(self, topic: str) -> str:
        """Return the absolute, remapped name of `topic`.

        Raises:
            StandaloneError: if `topic` is not a valid topic name.
        """
        expanded = expand(topic, self.name, self.namespace)
        return self._topics.get(expanded, expanded)

    def _expand_rule(self, side: str, source: str, target: str) -> str:
        try:
            return expand(side.removeprefix(_SCHEME), self.name, self.namespace)
        except StandaloneError as error:
            raise StandaloneError(f"remapping {source}:={target} is invalid: {error}") from None


def _rules_for(name: str, remappings: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield the rules that apply to node `name`: those without a "node:" prefix, and those with its own."""
    for source, target in remappings.items():
        if not source or not target:
            raise StandaloneError(f"remapping {source}:={target} is invalid, allowed is a name on either side of ':='")
        node, separator, rest = source.partition(":")
        if not separator or source.startswith(_SCHEME):
            yield source, target
        elif node == name:
            yield rest, target


def _valid_path(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "" and all(_TOKEN.fullmatch(part) for part in parts[1:]) and len(path) <= _MAX_LENGTH
