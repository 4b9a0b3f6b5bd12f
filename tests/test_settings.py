"""Every limit: from a value, from text and from the environment, and refused by name when it is wrong."""

from __future__ import annotations

import math

import pytest
from msgspec import NODEFAULT, structs

from bargein_server.options import settings_from_environment
from bargein_server.settings import Settings
from bargein_server.settings_reader import (
    SETTINGS,
    Setting,
    SettingsError,
    settings_from,
)

FIELDS = {field.name: field for field in structs.fields(Settings)}


def limits(name: str) -> tuple[float | None, float | None, float | None]:
    """Return the least value, the value that it must be above, and the greatest."""
    setting = SETTINGS[name]
    return setting.least, setting.above, setting.most


NUMBERS = [name for name in FIELDS if limits(name)[2] is not None]
CHOICES = {
    "on_busy": ("interrupt", "queue", "reject"),
    "cleanup": ("overlap", "wait"),
    "stream_closed": ("away", "interrupt"),
}
SWITCHES = ("close_model_calls", "metrics", "traces")
SHARES = {"max_client_share": "0.5"}


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
            with pytest.raises(SettingsError, match=f"^{name}: expected "):
                settings_from({name: given})


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_its_words(name: str) -> None:
    """Any other is refused by name."""
    for word in CHOICES[name]:
        assert getattr(settings_from({name: word}), name) == word
    with pytest.raises(SettingsError, match=f"^{name}: expected "):
        settings_from({name: "other"})


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_on_or_off(name: str) -> None:
    """Off by default, unless it is a guarantee; any other word is refused by name."""
    assert getattr(settings_from({}), name) is (name == "close_model_calls")
    for word, value in ((True, True), ("true", True), ("1", True), ("false", False), ("0", False)):
        assert getattr(settings_from({name: word}), name) is value
    with pytest.raises(SettingsError, match=f"^{name}: expected "):
        settings_from({name: "maybe"})


def test_an_unknown_setting_is_refused_by_name() -> None:
    """A slip of the pen is not ignored."""
    with pytest.raises(SettingsError, match=r"^unknown setting hold; did you mean hold_s\?$"):
        settings_from({"hold": 2})


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_an_environment_variable(name: str) -> None:
    """`BARGEIN_` and its name in capitals; variables without the prefix are ignored."""
    words = {name: choices[1] for name, choices in CHOICES.items()} | dict.fromkeys(SWITCHES, "true") | SHARES
    value = words.get(name, "5000")
    environment = {
        f"BARGEIN_{name.upper()}": value,
        "PATH": "/bin",
        "BARGEIN_TOKEN": "x",
        f"{name.upper()}": "1",
    }
    given = settings_from_environment(environment)
    assert given == {name: value}
    assert str(getattr(settings_from(given), name)).lower().removesuffix(".0") == value


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("BARGEIN_HODL_S", "; did you mean BARGEIN_HOLD_S?"),
        ("BARGEIN_TOKENS", "; did you mean BARGEIN_TOKEN?"),
        ("BARGEIN_PROT", "; did you mean BARGEIN_PORT?"),
        ("BARGEIN_XYZZY_QUUX_42", ""),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_one(variable: str, hint: str) -> None:
    """A misspelt limit must not be ignored silently."""
    with pytest.raises(SettingsError) as error:
        settings_from_environment({variable: "1"})
    assert str(error.value) == f"unknown environment variable {variable}{hint}"


def test_host_port_and_token_are_variables_of_the_command() -> None:
    """They are no settings, and no errors."""
    environment = {"BARGEIN_HOST": "::1", "BARGEIN_PORT": "1", "BARGEIN_TOKEN": "t"}
    assert settings_from_environment(environment) == {}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_frame_bytes", "5368709120", "expected at most 2147483648 bytes, got 5368709120"),
        ("max_frame_bytes", 3.5, "expected a whole number of bytes, got 3.5"),
        ("hold_s", "0", "expected more than 0 seconds, got 0"),
        ("hold_s", "soon", "expected a number of seconds, got 'soon'"),
        ("max_running_turns", 0, "expected at least 1, got 0"),
        ("max_running_turns", None, "expected a whole number, got None"),
        ("max_messages_per_s", 0, "expected at least 1 per second, got 0"),
        ("on_busy", "shrug", "expected interrupt, queue or reject, got 'shrug'"),
        ("metrics", "maybe", "expected true or false, got 'maybe'"),
    ],
)
def test_an_error_has_the_bound_the_unit_and_the_value(name: str, value: object, message: str) -> None:
    """All three come from the field's own description."""
    with pytest.raises(SettingsError) as error:
        settings_from({name: value})
    assert str(error.value) == f"{name}: {message}"


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_setting_is_described(setting: Setting) -> None:
    """A sentence, a heading, and a unit where the number has one."""
    assert setting.description.endswith(".")
    assert setting.description[0].isupper()
    assert setting.group
    if setting.name.endswith("_s") and isinstance(setting.default, float):
        assert setting.unit == "seconds"
    if setting.name.endswith("_bytes"):
        assert setting.unit == "bytes"


def test_no_environment_is_no_settings() -> None:
    """The defaults hold."""
    assert settings_from_environment({}) == {}


def test_settings_cannot_change() -> None:
    """They are read all over the server."""
    with pytest.raises(AttributeError):
        Settings().hold_s = 3  # type: ignore[misc]
