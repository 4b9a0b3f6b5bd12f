"""How output is handed over to a client that reads slowly."""

from __future__ import annotations

import pytest

from bargein_protocol import JSON, Ping, TextDelta, Thought, Token, TurnHold, TurnId, TurnResume
from bargein_server.core.checks import TEXT_PIECE
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


def test_text_goes_at_once_only_when_nothing_stands_before_it() -> None:
    """In all other cases nothing changes, and it takes its place behind what waits."""
    talk = Talk()
    turn = talk.ask()
    assert talk.at_once(turn, "1 ") is not None
    top = talk.session.delivery._stream.top

    def refuses(text: str = "no", turn: TurnId = turn) -> bool:
        return talk.at_once(turn, text) is None and talk.session.delivery._stream.top == top

    assert refuses(text="")
    assert refuses(text="x" * (TEXT_PIECE + 1))
    assert refuses(text="\ud800")
    assert refuses(turn=TurnId("another"))
    talk.open = False
    talk.session.emit(turn, "2 ", talk.now)
    assert refuses()  # "2 " waits
    talk.open = True
    talk.flush()
    assert talk.enter_section(turn)
    top = talk.session.delivery._stream.top
    assert refuses()  # a section protects what is said in it
    talk.leave_section(turn)
    talk.session.receive(Ping(id="p"), talk.now)
    assert refuses()  # its answer is ready and not written
    talk.flush()
    talk.send(TurnHold(turn_id=turn))
    top = talk.session.delivery._stream.top
    assert refuses()  # held
    talk.send(TurnResume(turn_id=turn))
    talk.detach()
    top = talk.session.delivery._stream.top
    assert refuses()  # nobody is there
    talk.session.attach(JSON, Token("k"), talk.now, resume=talk.resume(talk._token, 1))
    assert refuses()  # the client has not seen everything before it
    talk.flush()
    assert talk.at_once(turn, "3 ") is not None
    talk.finish(turn)
    top = talk.session.delivery._stream.top
    assert refuses()  # it has ended
    assert [event.text for event in talk.of(TextDelta)][:1] == ["2 "]


def test_text_at_once_is_history_and_heard_like_any_other() -> None:
    """Only the way to the line is shorter."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "One ", "two ")
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.heard.seq) == ("One two ", end.last_seq)
