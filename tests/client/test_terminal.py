"""Text that is safe for a terminal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_client.cli.screen import PlainScreen
from bargein_client.cli.terminal import escape_json, neutralise, paint


@given(st.text())
def test_no_control_character_gets_through(text: str) -> None:
    """Of all control characters only newline and tab remain."""
    shown = neutralise(text)
    assert not [c for c in shown if (ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢 🙂\n\ttext", "plain é 漢 🙂\n\ttext"),
        ("\x1b]0;title\x07", "\u241b]0;title\u2407"),
        ("\x1b[2J", "\u241b[2J"),
        ("safe\rlies", "safelies"),
        ("\x9b31m\x7f", "\ufffd31m\u2421"),
        ("\x1b]8;;https://evil.example\x1b\\here", "\u241b]8;;https://evil.example\u241b\\here"),
    ],
)
def test_control_characters_become_pictures(text: str, shown: str) -> None:
    """Control characters are shown; ordinary text is unchanged."""
    assert neutralise(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rm \u202efdp.txt\u2069", "rm \ufffdfdp.txt\ufffd"),  # an override would show `txt.pdf`
        ("pay\u200bpal\ufeff \u2060so\u00adft \u3164", "paypal soft "),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("a\u200db\u200cc\u200b\u200dd", "abcd"),
        ("one\u2028two\u2029three\u0085", "one\ntwo\nthree\ufffd"),
    ],
)
def test_text_is_not_reordered_and_hides_nothing(text: str, shown: str) -> None:
    """Changes of direction are visible, characters without a shape are gone."""
    assert neutralise(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f4bb \U0001f469\U0001f3fd\u200d\U0001f680",
        "\u2764\ufe0f\u200d\U0001f525 1\ufe0f\u20e3",
        "\u200d\U0001f4bb",  # the second piece of an emoji
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "e\u0301 \u0915\u094d\u200d\u0937 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u05e9\u05dc\u05d5\u05dd 1\u00a0000\u202f\u20ac \u1820\u180b",
    ],
)
def test_ordinary_text_of_every_script_survives(text: str) -> None:
    """Emoji, accents, Devanagari, Persian, Hebrew, spaces that do not break."""
    assert neutralise(text) == text


def test_a_notice_is_one_line() -> None:
    """Text of a peer cannot begin a line that looks like another notice."""
    out, err = io.StringIO(), io.StringIO()
    PlainScreen(out, err).line("note", "failed\nmay I?  /yes\u2028more\r\n")
    assert err.getvalue() == "failed may I?  /yes more\n"


def test_json_stays_json() -> None:
    """Characters that are not shown, or interpreted, are escaped as JSON escapes them."""
    assert escape_json('{"a":"\x9b\x7f"}') == '{"a":"\\u009b\\u007f"}'
    hidden = "a\u202e\u200b\u200d\ufe0f\u2028\U000e0041\U000e0100 \u05d0 e\u0301"
    escaped = escape_json(json.dumps(hidden, ensure_ascii=False))
    assert json.loads(escaped) == hidden
    assert escaped == (r'"a\u202e\u200b\u200d\ufe0f\u2028\udb40\udc41\udb40\udd00 ' + "\u05d0 e\u0301" + '"')


def test_paint_ends_what_it_begins() -> None:
    """A colour ends with its text; plain text has none."""
    assert paint("thought", "hm").endswith("\x1b[0m")
    assert paint("text", "hm") == "hm"


class Tty(io.StringIO):
    """Stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_answers_and_news_go_different_ways() -> None:
    """Standard output holds the answer and nothing else."""
    out, err = io.StringIO(), io.StringIO()
    screen = PlainScreen(out, err)
    screen.status("thinking")
    screen.write("thought", "hm\x1b[2J")
    screen.write("text", "one ")
    screen.status("not in the middle of an answer")
    screen.write("text", "two\x1b[2J")
    screen.cut()
    screen.line("mark", "cut")
    assert out.getvalue() == "one two\u241b[2J\n"
    assert err.getvalue() == "\u2026 thinking\nhm\u241b[2J\ncut\n"


def test_news_are_dimmed_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only at a terminal, and not with NO_COLOR."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    err = Tty()
    PlainScreen(io.StringIO(), err).line("note", "news")
    assert err.getvalue() == "\x1b[2mnews\n\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    err = Tty()
    PlainScreen(io.StringIO(), err).line("note", "news")
    assert err.getvalue() == "news\n"


def test_a_cut_is_marked_at_a_terminal() -> None:
    """The mark shows that the answer did not end normally."""
    out = Tty()
    screen = PlainScreen(out, io.StringIO())
    screen.write("text", "once upon")
    screen.cut()
    assert out.getvalue() == "once upon \u27c2\n"
