"""Declarations of parameters and topics, with the validation of values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

Value = bool | int | float | str | tuple[str, ...]

_NAME = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*(?:/[A-Za-z_][A-Za-z0-9_]*)*)?")


class ParameterError(ValueError):
    """A parameter is unknown, has the wrong type or is out of range; the message is one sentence for the user."""


@dataclass(frozen=True)
class Qos:
    """Quality of service of a topic; the history is always "keep last" and the durability "volatile"."""

    reliable: bool
    depth: int


@dataclass(frozen=True)
class Topic:
    """A topic of the node. `name` is relative, private ("~/features") or absolute, as in ROS 2.

    A `shared` topic is one of the whole node, not of each camera. One with an `adapter` exists if that is among the
    parameter `adapters`.
    """

    key: str
    name: str
    type: str
    qos: Qos
    description: str
    shared: bool = False
    adapter: str = ""

    def for_camera(self, camera: str) -> Topic:
        """Return the topic of one of several cameras, "left/image" or "~/left/features"; shared ones stay."""
        if not camera or self.shared:
            return self
        private = "~/" if self.name.startswith("~/") else ""
        return replace(self, name=f"{private}{camera}/{self.name.removeprefix(private)}")


@dataclass(frozen=True)
class Parameter:
    """A parameter of the node. Its type is the default's; `minimum` and `maximum` are inclusive, lists are tuples."""

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def type(self) -> type:
        return type(self.default)

    @property
    def allowed(self) -> str:
        """Describe the values that the parameter accepts."""
        if self.choices and self.type is tuple:
            return f"a list of different names from {', '.join(self.choices)}, or one empty name for none"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.type is bool:
            return "true or false"
        if self.minimum is not None:
            kind = "an integer" if self.type is int else "a number"
            return f"{kind} from {_format(self.minimum)} to {_format(self.maximum)}"
        if self.type is tuple:
            return "a list of different names of letters, digits, underscores and slashes, or one empty name"
        return "a string that is not empty"

    def check(self, value: Any) -> Value:
        """Convert `value` to the parameter's type.

        Raises:
            ParameterError: if the type is wrong or the value is out of range.
        """
        valid: bool
        if isinstance(value, bool) and {"true", "false"} <= set(self.choices):
            value = str(value).lower()  # unquoted in YAML
        if self.type is bool:
            valid = isinstance(value, bool)
        elif self.type is int:
            valid = isinstance(value, int) and not isinstance(value, bool)
        elif self.type is float:
            valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        elif self.type is tuple:
            valid = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
            valid = valid and 0 < len(value) == len(set(value)) and all(map(_NAME.fullmatch, value))
            valid = valid and ("" not in value or len(value) == 1)
        else:
            valid = isinstance(value, str) and bool(value)
        if valid and self.minimum is not None:
            valid = self.minimum <= value <= self.maximum
        if valid and self.choices:
            valid = value in self.choices if self.type is not tuple else {*value} <= {"", *self.choices}
        if not valid:
            raise ParameterError(f"parameter '{self.name}' is {value!r}, allowed is {self.allowed}")
        return self.type(value)


class ParameterTable:
    """The parameters of a node."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self._by_name = {parameter.name: parameter for parameter in parameters}

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Parameter:
        """Look up a parameter by name.

        Raises:
            ParameterError: if there is none.
        """
        if name not in self._by_name:
            raise ParameterError(f"parameter '{name}' is unknown, known are {', '.join(self._by_name)}")
        return self._by_name[name]

    def defaults(self) -> dict[str, Value]:
        """Return the default of every parameter by name."""
        return {parameter.name: parameter.default for parameter in self}

    def checked(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Convert `values` to their parameters' types.

        Raises:
            ParameterError: for an unknown name, a wrong type or a value out of range.
        """
        return {name: self[name].check(value) for name, value in values.items()}

    def changed(self, values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a running node after changes.

        Raises:
            ParameterError: as `checked`, and if a parameter is read-only.
        """
        checked = self.checked(changes)
        for name, value in checked.items():
            if self[name].read_only and value != values[name]:
                raise ParameterError(f"parameter '{name}' is read-only, set it when starting the node")
        return {**values, **checked}


def _format(number: float | None) -> str:
    if number is None:
        return ""
    return str(int(number)) if number == int(number) else f"{number:g}"
