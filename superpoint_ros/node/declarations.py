"""What a parameter and a topic are: their types, what they allow, and the sentence about what they do not."""

from __future__ import annotations

import math
import re
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
    """A topic of the node. `name` is relative, or private with a leading "~/", as ROS 2 writes it."""

    key: str
    name: str
    type: str
    qos: Qos
    description: str

    def for_camera(self, camera: str) -> Topic:
        """The topic of one of several cameras, "left/image" or "~/left/features"; one of the whole node stays."""
        if not camera or self.name.startswith("/"):
            return self
        private = "~/" if self.name.startswith("~/") else ""
        return replace(self, name=f"{private}{camera}/{self.name.removeprefix(private)}")


@dataclass(frozen=True)
class Parameter:
    """A parameter of the node. The type is the default's; `minimum` and `maximum` are inclusive. Lists are tuples."""

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
        """What the parameter accepts, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.type is bool:
            return "true or false"
        if self.minimum is not None:
            kind = "an integer" if self.type is int else "a number"
            return f"{kind} from {_short(self.minimum)} to {_short(self.maximum)}"
        if self.type is tuple:
            return "a list of different names of letters, digits, underscores and slashes, or one empty name"
        return "a string that is not empty"

    def check(self, value: Any) -> Value:
        """Return `value` in the parameter's type.

        Raises:
            ParameterError: if the type is wrong or the value is out of range.
        """
        good: bool
        if isinstance(value, bool) and {"true", "false"} <= set(self.choices):
            value = str(value).lower()  # YAML makes it one
        if self.type is bool:
            good = isinstance(value, bool)
        elif self.type is int:
            good = isinstance(value, int) and not isinstance(value, bool)
        elif self.type is float:
            good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        elif self.type is tuple:
            good = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
            good = good and 0 < len(value) == len(set(value)) and all(map(_NAME.fullmatch, value))
            good = good and ("" not in value or len(value) == 1)
        else:
            good = isinstance(value, str) and bool(value)
        if good and self.minimum is not None:
            good = self.minimum <= value <= self.maximum
        if good and self.choices:
            good = value in self.choices
        if not good:
            raise ParameterError(f"parameter '{self.name}' is {value!r}, allowed is {self.allowed}")
        return self.type(value)


def _short(number: float | None) -> str:
    if number is None:
        return ""
    return str(int(number)) if number == int(number) else f"{number:g}"
