"""How output is handed over to a client that reads slowly."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    JSON,
    Heartbeat,
    Ping,
    TextDelta,
    Thought,
    Token,
    TurnEnded,
    TurnHold,
    TurnId,
    TurnResume,
)
from bargein_server.core.author_code import TEXT_PIECE
from bargein_server.core.text_run import MAX_UNSETTLED
from bargein_server.core.turn_record import JOINED_TEXT, MAX_TURN_CHARS
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
    while frames := talk.session.output.next_frames(True, 100):
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


def test_a_run_opens_only_when_no_output_stands_before_it() -> None:
    """In all other cases text takes its place behind what waits."""
    talk = Talk()
    turn = talk.ask()

    def opens(turn: TurnId = turn) -> bool:
        top = talk.session.output._sequencer.top
        run = talk.session.output.open_text(turn)
        assert run is None or run.open
        talk.session.output.settle()
        assert run is None or not run.open
        assert talk.session.output._sequencer.top == top
        return run is not None

    assert opens()
    assert not opens(TurnId("another"))
    talk.open = False
    talk.session.emit(turn, "2 ", talk.now)
    assert not opens()  # "2 " waits
    talk.open = True
    talk.flush()
    assert opens()
    assert talk.enter_section(turn)
    assert not opens()  # a section protects its output
    assert talk.interrupt(turn).outcome == "deferred"
    assert not opens()
    talk.leave_section(turn)
    assert not opens()  # it has ended
    turn = talk.ask()
    talk.session.receive(Ping(id="p"), talk.now)
    assert opens(turn)
    assert len(talk.session.output.take_ready()) == 1  # its answer goes out first
    assert talk.session.output.take_ready() == []
    assert opens(turn)
    talk.send(TurnHold(turn_id=turn))
    assert not opens(turn)
    talk.send(TurnResume(turn_id=turn))
    assert opens(turn)
    talk.detach()
    assert not opens(turn)  # nobody is there
    talk.session.attach(JSON, Token("k"), talk.now, resume=talk.resume(talk._token, 1))
    assert not opens(turn)  # the client has not seen everything before it
    talk.flush()
    assert opens(turn)
    talk.finish(turn)
    assert not opens(turn)


@pytest.mark.parametrize("outputs", [0, 1])
def test_a_turn_whose_agent_has_returned_opens_no_run(outputs: int) -> None:
    """Its output and its end wait for the line."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, *[Thought(text="hm")] * outputs)
    talk.finish(turn)
    assert talk.session.output.open_text(turn) is None


def test_a_run_that_is_asked_for_again_is_the_same() -> None:
    """Also after text that took the way through the core: numbers follow one another."""
    talk = Talk()
    turn = talk.ask()
    first = talk.session.output.open_text(turn)
    assert first is not None
    assert talk.session.output.open_text(turn) is first
    first.append("one ", talk.now)
    talk.session.emit(turn, "two ", talk.now)
    assert not first.open
    talk.flush()
    assert talk.session.output.open_text(turn) is first
    first.append("three", talk.now)
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.seq) == ("one two three", 6)


def test_a_run_that_is_full_is_settled_and_goes_on() -> None:
    """The host emits what a run does not take, and every number is there once."""
    talk = Talk()
    turn = talk.ask()
    for _ in range(MAX_UNSETTLED):
        assert talk.append_text(turn, "x")
    assert not talk.append_text(turn, "y")
    assert talk.emit(turn, "y")
    assert talk.append_text(turn, "z")
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert end.heard.text == "x" * MAX_UNSETTLED + "yz"
    assert talk.numbers() == list(range(1, end.seq + 1))


@pytest.mark.parametrize("open_line", [True, False])
def test_text_beyond_what_a_turn_remembers_is_logged_by_its_frames(open_line: bool) -> None:
    """A run that reaches the bound is replayed like any other text."""
    talk = Talk(max_queued_output_bytes=1 << 30)
    turn = talk.ask()
    before = len(talk.events)
    words = ["x" * TEXT_PIECE] * (MAX_TURN_CHARS // TEXT_PIECE - 1) + ["y" * (TEXT_PIECE - 3), "over", *"abc"]
    talk.open = open_line
    if not open_line:
        talk.session.turn(turn).choked = False
    talk.emit(turn, *words)
    talk.open = True
    talk.flush()
    shown = [event for event in talk.events[before:] if isinstance(event, TextDelta)]
    assert "".join(texts(talk)) == "".join(words)
    talk.detach()
    talk.attach(2)
    assert [event for event in talk.events[before + len(shown) :] if isinstance(event, TextDelta)] == shown
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.text == "".join(words)[:MAX_TURN_CHARS]


def test_a_surrogate_beyond_what_a_turn_remembers_is_mended_too() -> None:
    """That text is an event of its own, not a piece of a run."""
    talk = Talk(max_queued_output_bytes=1 << 30)
    turn = talk.ask()
    talk.emit(turn, *["x" * TEXT_PIECE] * (MAX_TURN_CHARS // TEXT_PIECE), "half \ud83d", " and on")
    assert texts(talk)[-2:] == ["half ?", " and on"]
    assert talk.numbers() == list(range(1, len(talk.numbers()) + 1))


def test_text_in_an_open_run_counts_as_progress() -> None:
    """The time-out for agents that are silent runs from the last word."""
    talk = Talk(no_output_s=10.0)
    turn = talk.ask()
    for _ in range(4):
        talk.wait(4.0)
        assert talk.append_text(turn, "word ")
    talk.wait(9.0)
    assert not talk.of(TurnEnded)
    talk.wait(2.0)
    assert talk.end_of(turn).reason == "no_output"


def test_text_in_an_open_run_is_no_silence_of_the_server() -> None:
    """A client that reads words needs no heartbeat."""
    talk = Talk(heartbeat_s=10.0, no_output_s=1000.0)
    turn = talk.ask()
    for _ in range(20):
        talk.wait(2.0)
        assert talk.append_text(turn, "word ")
    assert not talk.of(Heartbeat)
    talk.wait(12.0)
    assert len(talk.of(Heartbeat)) >= 1


def test_text_in_an_open_run_is_history_and_heard_like_any_other() -> None:
    """Only the way to the line is shorter."""
    talk = Talk()
    turn = talk.ask()
    assert talk.append_text(turn, "One ")
    assert talk.append_text(turn, "two ")
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.heard.seq) == ("One two ", end.last_seq)
    following = talk.ask("and?")
    assert [message["content"] for message in talk.heard_by_next(following)][1].startswith("One two")


def test_protected_text_is_heard_when_its_end_comes_at_once() -> None:
    """The section's last frame and the end of the turn that waited for it are one step."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.enter_section(turn)
    talk.emit(turn, "legal words")
    talk.leave_section(turn)
    assert talk.interrupt(turn).outcome == "deferred"
    talk.open = True
    talk.flush()
    end = talk.end_of(turn)
    assert (end.heard.text, end.heard.seq, end.last_seq) == ("legal words", end.seq - 1, end.seq - 1)
