"""Settings from the names and texts of command line and environment.

Each setting is also an environment variable, `BARGEIN_` and its name in capitals, and a flag of
`bargein-server`, its name with dashes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import Struct, inspect

from .settings import Settings

PREFIX = "BARGEIN_"
"""Prefix of the environment variables."""

OTHER_VARIABLES = (
    "BARGEIN_HOST", "BARGEIN_PEER_SECRET", "BARGEIN_PIPER_HOME", "BARGEIN_PORT", "BARGEIN_STORE",
    "BARGEIN_TOKEN", "BARGEIN_WORKERS",
)  # fmt: skip
"""Environment variables of `bargein-server` that are not settings."""


class SettingsError(ValueError):
    """A setting is unknown or out of bounds; the message names it."""


class Setting(Struct, frozen=True, kw_only=True):
    """Description of one setting.

    Args:
        name: The field of `Settings`.
        group: The heading that it stands under.
        description: One or two sentences.
        unit: The unit of a number; empty for a count, a choice or a switch.
        default: The default value.
        choices: The words that are allowed; empty for numbers and switches.
        least: The smallest value.
        above: The bound that a value must exceed, in place of `least`.
        most: The largest value.
    """

    name: str
    group: str
    description: str
    unit: str
    default: Any
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Name of the flag."""
        return "--" + self.name.replace("_", "-")

    def expected(self, value: object) -> str:
        """Return the rule that a value violates, as the object of "expected"."""
        if isinstance(self.default, bool):
            return "true or false"
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        unit = f" {self.unit}" if self.unit else ""
        number = _number(value, type(self.default))
        if number is None:
            of_unit = f" of{unit}" if unit else ""
            return f"a number{of_unit}" if isinstance(self.default, float) else f"a whole number{of_unit}"
        if self.above is not None and number <= self.above:
            return f"more than {self.above:.10g}{unit}"
        if self.least is not None and number < self.least:
            return f"at least {self.least:.10g}{unit}"
        return f"at most {self.most:.10g}{unit}"


def _number(value: object, kind: type[int] | type[float]) -> float | None:
    try:
        number = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return None
    return None if math.isnan(number) else number


def _described(field: inspect.Field) -> Setting:
    assert isinstance(field.type, inspect.Metadata)
    kind, extra = field.type.type, field.type.extra or {}
    return Setting(
        name=field.name,
        group=extra["group"],
        description=(field.type.extra_json_schema or {})["description"],
        unit=extra.get("unit", ""),
        default=field.default,
        choices=tuple(str(word) for word in kind.values) if isinstance(kind, inspect.LiteralType) else (),
        least=getattr(kind, "ge", None),
        above=getattr(kind, "gt", None),
        most=getattr(kind, "le", None),
    )


_info = inspect.type_info(Settings)
assert isinstance(_info, inspect.StructType)
SETTINGS: dict[str, Setting] = {field.name: _described(field) for field in _info.fields}
"""Descriptions of all settings, by name."""

_types = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Return settings from names and values; text is converted.

    Raises:
        SettingsError: A name is unknown or a value is out of bounds.
    """
    converted = {}
    for name, value in values.items():
        if name not in SETTINGS:
            raise SettingsError(f"unknown setting {name}{did_you_mean(name, list(SETTINGS))}")
        try:
            converted[name] = msgspec.convert(value, _types[name], strict=False)
        except msgspec.ValidationError:
            got = repr(value) if _number(value, float) is None else value
            raise SettingsError(f"{name}: expected {SETTINGS[name].expected(value)}, got {got}") from None
    return Settings(**converted)


def did_you_mean(name: str, names: Sequence[str], prefix: str = "") -> str:
    """Return the end of an error message about an unknown name."""
    found = get_close_matches(name, names, n=1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""
