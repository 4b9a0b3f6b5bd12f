"""Every limit: from a value, from text and from the environment, and refused by name when it is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec import NODEFAULT, inspect, structs

from bargein_server.settings import Settings, SettingsError, settings_from, settings_from_environment

FIELDS = {field.name: field for field in structs.fields(Settings)}


def limits(name: str) -> tuple[float | None, float | None, float | None]:
    """Return the least value, the value that it must be above, and the greatest."""
    info = next(f for f in inspect.type_info(Settings).fields if f.name == name).type  # type: ignore[attr-defined]
    return getattr(info, "ge", None), getattr(info, "gt", None), getattr(info, "le", None)


NUMBERS = [name for name in FIELDS if limits(name)[2] is not None]
CHOICES = {
    "on_busy": ("interrupt", "queue", "reject"),
    "cleanup": ("overlap", "wait"),
    "stream_closed": ("away", "interrupt"),
}
SWITCHES = ("metrics", "traces")


def test_every_setting_is_a_bounded_number_a_choice_or_a_switch() -> None:
    """And has a default, so that no setting is needed."""
    assert set(NUMBERS) | set(CHOICES) | set(SWITCHES) == set(FIELDS)
    assert not any(field.default is NODEFAULT for field in FIELDS.values())
    assert settings_from({}) == Settings()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_taken_as_value_and_as_text_at_its_bounds(name: str) -> None:
    """The bounds themselves are legal."""
    least, above, most = limits(name)
    good = [most, least if least is not None else math.nextafter(above or 0.0, 1)]
    for value in good:
        assert value is not None
        assert getattr(settings_from({name: value}), name) == value
        assert getattr(settings_from({name: str(value)}), name) == value


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_beyond_its_bounds_is_refused_by_name(name: str) -> None:
    """One past either bound, and what is no number at all."""
    least, above, most = limits(name)
    assert most is not None
    below = above if above is not None else (least or 0) - 1
    for value in (below, most + 1, "many", "", None, [1], "nan"):
        for given in (value, str(value)):
            with pytest.raises(SettingsError, match=f"for setting `{name}"):
                settings_from({name: given})


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_its_words(name: str) -> None:
    """Any other is refused by name."""
    for word in CHOICES[name]:
        assert getattr(settings_from({name: word}), name) == word
    with pytest.raises(SettingsError, match=f"for setting `{name}`"):
        settings_from({name: "other"})


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_on_or_off(name: str) -> None:
    """Off by default; any other word is refused by name."""
    assert getattr(settings_from({}), name) is False
    for word, value in ((True, True), ("true", True), ("1", True), ("false", False), ("0", False)):
        assert getattr(settings_from({name: word}), name) is value
    with pytest.raises(SettingsError, match=f"for setting `{name}`"):
        settings_from({name: "maybe"})


def test_an_unknown_setting_is_refused_by_name() -> None:
    """A slip of the pen is not ignored."""
    with pytest.raises(SettingsError, match=r"^unknown setting 'hold'$"):
        settings_from({"hold": 2})


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_an_environment_variable(name: str) -> None:
    """`BARGEIN_` and its name in capitals; other variables are none of ours."""
    value: Any = CHOICES[name][1] if name in CHOICES else "true" if name in SWITCHES else "5000"
    environment = {f"BARGEIN_{name.upper()}": value, "PATH": "/bin", "BARGEIN_": "x", f"{name.upper()}": "1"}
    given = settings_from_environment(environment)
    assert given == {name: value}
    assert str(getattr(settings_from(given), name)).lower().removesuffix(".0") == value


def test_no_environment_is_no_settings() -> None:
    """The defaults hold."""
    assert settings_from_environment({}) == {}


def test_settings_cannot_change() -> None:
    """They are read all over the server."""
    with pytest.raises(AttributeError):
        Settings().hold_s = 3  # type: ignore[misc]
