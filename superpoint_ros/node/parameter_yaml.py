"""Read YAML with the types of ROS 2's own parser, which differ from PyYAML's."""

from __future__ import annotations

import re
import sys
from typing import Any

import yaml

_TRUE = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_INTEGER = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    r"|0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?\d+)?"
    r"|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])"
)
_SPECIAL = {f"{sign}.{word}" for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")} | {".nan", ".NaN", ".NAN"}


class _Loader(yaml.SafeLoader):
    """PyYAML without implicit types: a scalar has a tag only if the text has one."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        return "" if kind is yaml.ScalarNode else super().resolve(kind, value, implicit)


def load(text: str) -> Any:
    """Read YAML into dictionaries with string keys, lists, bool, int, float and str.

    Raises:
        ValueError: in one line, if the text is not YAML, or a value is missing.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _value(node)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it contains itself") from error


def scalar(text: str) -> bool | int | float | str:
    """Convert an unquoted scalar as ROS 2 does: `1e-3` is a number, `on` is true, `0x10` is 16."""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if found := _INTEGER.fullmatch(text):
        digits = found[2]
        octal = digits[0] == "0" and digits[1:2] not in ("x", "X")
        number = int(found[1] + digits, 8 if octal else 0)
        if -(2**63) <= number < 2**63:
            return number
    if text in _SPECIAL:
        return float(text.replace(".", ""))
    if not _FLOAT.fullmatch(text):
        return text
    try:
        value = float.fromhex(text) if "x" in text.lower() else float(text)
    except OverflowError:
        return text
    # Numbers outside the normal range of a double stay text.
    named = text.lstrip("+-")[0] in "iInN"
    zero = value == 0 and not re.search("[1-9a-fA-F]", re.split("[eEpP]", text.lower().replace("0x", ""))[0])
    return value if named or zero or sys.float_info.min <= abs(value) <= sys.float_info.max else text


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key.value: _value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        values = [_value(item) for item in node.value]
        if len({type(value) for value in values}) > 1:
            raise ValueError(f"the list in line {node.start_mark.line + 1} contains values of different types")
        return values
    assert isinstance(node, yaml.ScalarNode)
    if node.style in ("'", '"') or node.tag == "tag:yaml.org,2002:str":
        return node.value
    if node.value == "":
        raise ValueError(f"line {node.start_mark.line + 1} contains no value")
    return scalar(node.value)
