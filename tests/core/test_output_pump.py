"""How output is handed over to a client that reads slowly."""

from __future__ import annotations

import pytest

from bargein_protocol import JSON, Ping, TextDelta, Thought, Token, TurnEnded, TurnHold, TurnId, TurnResume
from bargein_server.core.turn_record import JOINED_TEXT, MAX_TURN_CHARS, Misuse
from bargein_server.core.utterance import MAX_PIECES
from bargein_server.core.validation import TEXT_PIECE
from core_driver import Talk


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
    talk = Talk(max_queued_output_bytes=1024)
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, *["x" * 10] * 103)
    full = [talk.session.full]
    talk.open = True
    talk.flush()
    full.append(talk.session.full)
    assert full == [True, False]
    assert talk.session.turn(turn).queued_bytes == 0


def gushed(talk: Talk, *outputs: str | Thought) -> TurnId:
    """Let a turn yield faster than the shell comes to write."""
    turn = talk.ask()
    for output in outputs:
        assert talk.session.emit(turn, output, talk.now)
    return turn


def test_text_that_gushes_is_handed_over_in_one_step_and_no_more_than_there_is_room_for() -> None:
    """A frame for each piece; other output between them stands where it was."""
    talk = Talk()
    turn = gushed(talk, "a", "b", "c", Thought(text="d"), "e", "f")
    taken = []
    while frames := talk.session.delivery.next_frames(True, 100):
        taken.append([JSON.decode_server(frame) for frame in frames])
    events = [event for step in taken for event in step]
    assert [[getattr(event, "text", None) for event in step] for step in taken] == [
        ["a", "b"], ["c"], ["d"], ["e", "f"],
    ]  # fmt: skip
    assert [getattr(event, "seq", None) for event in events] == list(range(3, 9))
    assert talk.session.turn(turn).queued_bytes == 0
    talk.interrupt(turn)
    assert (talk.end_of(turn).last_seq, talk.end_of(turn).heard.text) == (8, "abcef")


def test_half_a_character_in_a_gush_is_mended_where_it_stands() -> None:
    """The seam of two chunks can leave half a surrogate pair behind."""
    talk = Talk()
    gushed(talk, "a", "b", "\ud83d", "c", "d")
    talk.flush()
    assert texts(talk) == ["a", "b", "?", "c", "d"]
    assert talk.numbers() == list(range(1, 8))


def test_a_gush_beyond_what_a_turn_remembers_is_replayed_whole() -> None:
    """The log has the frames of what the text has no room for."""
    talk = Talk(max_queued_output_bytes=1 << 30)
    words = [f"{n:04d}" * (TEXT_PIECE // 4) for n in range(MAX_TURN_CHARS // TEXT_PIECE + 3)]
    turn = gushed(talk, *words)
    talk.flush()
    assert texts(talk) == words
    talk.detach()
    talk.events.clear()
    talk.attach(2)
    assert texts(talk) == words
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.text == "".join(words)[:MAX_TURN_CHARS]


def test_an_utterance_begins_only_when_no_output_stands_before_it() -> None:
    """In all other cases text takes its place behind what waits."""
    talk = Talk()
    turn = talk.ask()

    def begins(turn: TurnId = turn) -> bool:
        top = talk.session.delivery._stream.top
        begun = talk.session.delivery.begin_utterance(turn) is not None
        assert talk.session.delivery._stream.top == top
        return begun

    assert begins()
    assert not begins(TurnId("another"))
    talk.open = False
    talk.session.emit(turn, "2 ", talk.now)
    assert not begins()  # "2 " waits
    talk.open = True
    talk.flush()
    assert talk.enter_section(turn)
    assert not begins()  # a section protects what is said in it
    assert talk.interrupt(turn).outcome == "deferred"
    assert not begins()
    talk.leave_section(turn)
    assert not begins()  # it has ended
    turn = talk.ask()
    talk.session.receive(Ping(id="p"), talk.now)
    assert begins(turn)
    assert len(talk.session.delivery.take_ready()) == 1  # its answer goes out first
    assert begins(turn)
    talk.send(TurnHold(turn_id=turn))
    assert not begins(turn)
    talk.send(TurnResume(turn_id=turn))
    assert begins(turn)
    talk.detach()
    assert not begins(turn)  # nobody is there
    talk.session.attach(JSON, Token("k"), talk.now, resume=talk.resume(talk._token, 1))
    assert not begins(turn)  # the client has not seen everything before it
    talk.flush()
    assert begins(turn)
    talk.finish(turn)
    assert not begins(turn)


def test_an_utterance_takes_only_what_can_be_written_as_it_is() -> None:
    """The rest takes the usual way, and so does what is too much for one utterance."""
    talk = Talk()
    turn = talk.ask()
    utterance = talk.session.delivery.begin_utterance(turn)
    assert utterance is not None
    for text in ("", "x" * (TEXT_PIECE + 1), "\ud800"):
        assert utterance.say(text, talk.now) is None
    for _ in range(MAX_PIECES):
        assert utterance.say("x" * TEXT_PIECE, talk.now) is not None
    assert utterance.say("y", talk.now) is None
    assert len(utterance.pieces) == MAX_PIECES


def test_an_utterance_that_was_not_entered_first_is_found_out() -> None:
    """Its numbers would be given twice. Nothing is changed by the attempt."""
    talk = Talk()
    turn = talk.ask()
    delivery = talk.session.delivery
    late, later = delivery.begin_utterance(turn), delivery.begin_utterance(turn)
    assert late is not None
    assert later is not None
    late.say("one ", talk.now)
    later.say("two ", talk.now)
    delivery.enter(late)
    top = delivery._stream.top
    with pytest.raises(Misuse, match="expected an utterance that begins with"):
        delivery.enter(later)
    talk.interrupt(turn)
    with pytest.raises(Misuse, match="expected an utterance of the current turn"):
        delivery.enter(later)
    assert talk.end_of(turn).heard.text == "one "
    assert talk.end_of(turn).last_seq == top


def test_text_beyond_what_a_turn_remembers_is_logged_by_its_frames() -> None:
    """An utterance that crosses the bound is replayed like any other."""
    talk = Talk()
    turn = talk.ask()
    before = len(talk.events)
    words = ["x" * TEXT_PIECE] * (MAX_TURN_CHARS // TEXT_PIECE + 2)
    talk.emit(turn, *words)
    shown = talk.events[before:]
    assert texts(talk) == words
    talk.detach()
    talk.attach(2)
    assert [event for event in talk.events[before + len(words) :] if isinstance(event, TextDelta)] == shown


def test_what_is_said_counts_as_progress() -> None:
    """The time-out for agents that say nothing runs from the last word."""
    talk = Talk(no_output_s=10.0)
    turn = talk.ask()
    for _ in range(4):
        talk.wait(4.0)
        assert talk.say(turn, "word ")
    talk.wait(9.0)
    assert not talk.of(TurnEnded)
    talk.wait(2.0)
    assert talk.end_of(turn).reason == "no_output"


def test_an_utterance_is_history_and_heard_like_any_other() -> None:
    """Only the way to the line is shorter."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "One ", "two ")
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.heard.seq) == ("One two ", end.last_seq)
