"""Text that is safe for a terminal."""

from __future__ import annotations

import io

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
    ],
)
def test_control_characters_become_pictures(text: str, shown: str) -> None:
    """Control characters are shown; ordinary text is unchanged."""
    assert neutralise(text) == shown


def test_json_stays_json() -> None:
    """Control characters above ASCII are escaped as JSON escapes them."""
    assert escape_json('{"a":"\x9b\x7f"}') == '{"a":"\\u009b\\u007f"}'


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
