"""How output is handed over to a client that reads slowly."""

from __future__ import annotations

import pytest

from bargein_protocol import TextDelta, Thought
from bargein_server.core.turns import JOINED_TEXT
from talk import Talk


def texts(talk: Talk) -> list[str]:
    return [event.text for event in talk.of(TextDelta)]


def choked(talk: Talk, *outputs: str | TextDelta | Thought) -> None:
    """Yield output while the client takes none, then let it take everything."""
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, *outputs)
    talk.open = True
    talk.flush()


def test_text_is_joined_while_a_client_does_not_read() -> None:
    """One frame for many tokens, with one number."""
    talk = Talk()
    choked(talk, *"abcdef")
    assert texts(talk) == ["abcdef"]
    assert talk.numbers() == list(range(1, len(talk.numbers()) + 1))


def test_text_is_not_joined_for_a_client_that_reads() -> None:
    """Every token is a frame of its own, also after the line was slow for a while."""
    talk = Talk()
    choked(talk, "a", "b", "c")
    turn = talk.ask()
    talk.emit(turn, *"xyz")
    assert texts(talk)[-3:] == ["x", "y", "z"]


def test_only_text_of_one_source_is_joined() -> None:
    """Other output between two deltas keeps them apart."""
    talk = Talk()
    one, two = TextDelta(text="1", source="one"), TextDelta(text="2", source="two")
    choked(talk, "a", "b", "c", Thought(text="x"), "d", one, one, two, two, "e")
    seen = [(event.source, event.text) for event in talk.of(TextDelta)]
    assert seen == [("", "abc"), ("", "d"), ("one", "11"), ("two", "22"), ("", "e")]


@pytest.mark.parametrize(("second", "frames"), [(JOINED_TEXT - 1, 1), (JOINED_TEXT, 2)])
def test_a_joined_text_has_a_bound(second: int, frames: int) -> None:
    """At the limit it is one frame, one character more makes two."""
    talk = Talk()
    choked(talk, Thought(text="t"), "a", "b" * second)
    assert len(texts(talk)) == frames
    assert "".join(texts(talk)) == "a" + "b" * second


def test_joined_text_of_a_section_is_spared() -> None:
    """And what follows the section is not joined to it: the interrupt that waits purges that."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "free ")
    talk.enter_section(turn)
    talk.emit(turn, "legal ", "words ")
    talk.leave_section(turn)
    talk.emit(turn, "more")
    assert talk.interrupt(turn).outcome == "deferred"
    talk.open = True
    talk.flush()
    assert texts(talk) == ["legal words "]
    assert talk.end_of(turn).heard.text == "legal words "


def test_waiting_text_counts_against_the_bound_when_joined() -> None:
    """The agent is not pulled when enough waits, and is again when it was taken."""
    talk = Talk(output_bytes=1024)
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, *["x" * 10] * 103)
    full = [talk.session.full]
    talk.open = True
    talk.flush()
    full.append(talk.session.full)
    assert full == [True, False]
    assert talk.session.turn(turn).queued_bytes == 0
