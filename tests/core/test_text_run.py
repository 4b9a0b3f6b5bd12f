"""A text run: what it takes, what an interrupt finds in it, and who closes it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_protocol import (
    CODECS,
    JSON,
    MESSAGEPACK,
    AudioDelta,
    Codec,
    IndexedText,
    InputId,
    Interrupt,
    InterruptId,
    Playback,
    Played,
    Seq,
    TextDelta,
    Thought,
    Token,
    TurnId,
    Usage,
)
from bargein_server.core.text_run import MAX_UNSETTLED, TextRun
from bargein_server.core.turn_record import MAX_TURN_CHARS
from core_driver import Talk

TURN = TurnId("t")


def new_run(codec: Codec = JSON, first: int = 1, room: int = 1000) -> TextRun:
    """Return an empty run of an empty text."""
    text = IndexedText(max_chars=room)
    return TextRun(codec, TURN, text, Seq(first), Seq(first), pieces=text.tail(), room=room)


def open_run(talk: Talk, turn: TurnId) -> TextRun:
    run = talk.session.output.open_text(turn)
    assert run is not None
    return run


def speaking(*words: str) -> tuple[Talk, TurnId]:
    """Return a talk in which a turn's text is in an open run."""
    talk = Talk()
    turn = talk.ask("hello", id="asked")
    for word in words or ("One ", "two "):
        assert talk.append_text(turn, word)
    return talk, turn


# --- the run alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
def test_a_piece_becomes_the_frame_of_a_delta_with_the_next_number(codec: Codec) -> None:
    """Its bytes are those of the event, in every codec, and of the frame that is encoded anew."""
    run = new_run(codec, first=7)
    frames = [run.append(text, 1.0) for text in ("a", "é", "\U0001f600")]
    run.settle()
    for seq, (frame, text) in enumerate(zip(frames, ("a", "é", "\U0001f600"), strict=True), 7):
        assert frame == codec.encode(TextDelta(seq=Seq(seq), turn_id=TURN, text=text))
        assert run.frame(Seq(seq), codec) == frame
    assert (run.first, run.next_seq) == (7, 10)


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
@pytest.mark.parametrize(
    ("text", "mended"),
    [("\ud83d", "?"), ("a\ude00b", "a?b"), ("\ud83d\ude00", "\U0001f600"), ("\U0001f600", "\U0001f600")],
)
def test_half_a_character_is_replaced_where_it_stands(codec: Codec, text: str, mended: str) -> None:
    """In the frame, in the turn's text and in the books; two halves become their character, one number."""
    run = new_run(codec, room=10)
    frame = run.append(text, 1.0)
    assert frame is not None
    many = new_run(codec, room=10)
    assert (many.extend([text], 1.0), many.room, many.pieces) == ([frame], run.room, run.pieces)
    assert codec.decode_server(frame) == TextDelta(seq=Seq(1), turn_id=TURN, text=mended)
    assert (run.next_seq, run.room, run.pieces) == (2, 10 - len(mended), [mended])
    assert run.settle() == (1, len(frame))
    assert (str(run.text), run.text.length, run.text.piece(Seq(1))) == (mended, len(mended), mended)


def test_a_surrogate_that_there_is_no_room_for_changes_nothing() -> None:
    """The record is looked at before the character is mended."""
    run = new_run(room=1)
    assert run.append("\ud83dx", 1.0) is None
    assert (run.next_seq, run.room, run.pieces, run.unsettled) == (1, 1, [], 0)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text("ab\U0001f600", min_size=1, max_size=5), max_size=9), max_size=9),
    st.integers(0, 60),
    st.sampled_from([JSON, MESSAGEPACK]),
)
def test_the_books_of_a_run_are_those_of_its_frames(steps: list[list[str]], room: int, codec: Codec) -> None:
    """Count, bytes, characters and room, whenever it is settled; what does not fit changes nothing."""
    run, kept, sizes = new_run(codec, room=room), list[str](), list[int]()
    for pieces in steps:
        before, added = sum(sizes), 0
        run.pieces, run.room = run.text.tail(), room - run.text.length
        for piece in pieces:
            frame = run.append(piece, 3.0)
            fits = sum(map(len, kept)) + len(piece) <= room
            assert (frame is not None) is fits
            if frame is not None:
                kept.append(piece)
                sizes.append(len(frame))
                added += 1
            assert run.unsettled == added
            assert run.next_seq == 1 + len(kept)
        assert run.settle() == (added, sum(sizes) - before)
        assert (run.unsettled, run.unsettled_size, run.size) == (0, 0, sum(sizes))
        assert (str(run.text), run.text.length) == ("".join(kept), len("".join(kept)))
    assert [run.text.piece(Seq(seq)) for seq in range(1, 1 + len(kept))] == kept
    while run.first < run.next_seq:
        left = run.size
        assert 0 < run.drop_first() <= left
    assert run.size == 0


def test_a_run_takes_so_much_and_no_more_before_it_is_settled() -> None:
    """Records must not lag behind without end; after settling it goes on under the next number."""
    run = new_run()
    for _ in range(MAX_UNSETTLED):
        assert run.append("x", 1.0) is not None
    assert run.append("y", 1.0) is None
    assert (run.next_seq, len(run.pieces)) == (1 + MAX_UNSETTLED, MAX_UNSETTLED)
    run.settle()
    run.pieces, run.room = run.text.tail(), 1000 - run.text.length
    assert run.append("y", 1.0) is not None
    run.settle()
    pieces = [run.text.piece(Seq(seq)) for seq in (MAX_UNSETTLED, MAX_UNSETTLED + 1)]
    assert pieces == ["x", "y"]


def test_deferred_text_is_appended_in_its_order() -> None:
    """Each piece under a number of its own, in the step in which it is written."""
    run = new_run()
    run.deferred = ["a", "b", "c"]
    frames = run.append_deferred(9.0)
    assert [JSON.decode_server(frame) for frame in frames] == [
        TextDelta(seq=Seq(seq), turn_id=TURN, text=text) for seq, text in enumerate("abc", 1)
    ]
    assert (list(run.deferred), run.written_at) == ([], 9.0)
    assert run.append_deferred(9.0) == []


@pytest.mark.parametrize("full", ["room", "unsettled"])
def test_deferred_text_that_the_records_do_not_take_goes_on_waiting(full: str) -> None:
    """From the first piece on that does not fit, so that no later one overtakes it."""
    run = new_run(room=5 if full == "room" else 10_000)
    if full == "unsettled":
        for _ in range(MAX_UNSETTLED - 1):
            run.append("x", 1.0)
    run.deferred = ["four", "five", "6"]
    assert len(run.append_deferred(1.0)) == 1
    assert list(run.deferred) == ["five", "6"]


# --- in a session: what an interrupt finds ------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "asked_by"), [(False, None), (False, "asked"), (True, None), (True, "asked"), (True, "other")]
)
@pytest.mark.parametrize(("reason", "force"), [(None, False), ("stop_button", True)])
def test_all_text_of_an_open_run_is_heard(
    named: bool, asked_by: str | None, reason: str | None, force: bool
) -> None:
    """By whatever the interrupt names the turn, with its reason, under the numbers that were written."""
    talk, turn = speaking()
    talk.interrupt(turn if named else None, asked_by=asked_by, reason=reason, force=force)
    end = talk.end_of(turn)
    assert (end.reason, end.heard.text, end.heard.seq) == (reason or "client", "One two ", end.last_seq)
    assert talk.types()[-2:] == ["interrupt.result", "turn.ended"]
    assert talk.numbers() == list(range(1, end.seq + 1))


def test_what_was_written_before_the_run_belongs_to_the_turn() -> None:
    """Other output and a report of usage stand between two runs of one text."""
    talk, turn = speaking("One ")
    talk.emit(turn, Thought(text="hm"), "two ")
    talk.session.add_usage(turn, Usage(input_tokens=3, output_tokens=4))
    talk.emit(turn, "three ", "four")
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.usage) == ("One two three four", Usage(input_tokens=3, output_tokens=4))
    assert (end.last_seq, end.heard.seq) == (end.seq - 1, end.seq - 1)


def test_the_next_turn_follows_the_end_of_an_open_run() -> None:
    """An input that waits gets the floor after that."""
    talk, turn = speaking()
    following = talk.ask("and then?", on_busy="queue")
    assert talk.append_text(turn, "three")
    before = talk.mark()
    talk.interrupt(turn)
    assert talk.types(before) == ["interrupt.result", "turn.ended", "turn.started"]
    assert talk.started() == [turn, following]


def test_a_resend_leaves_the_run_as_it_is() -> None:
    """It gets the first answer again and ends nothing (contract 4), also that of another kind."""
    talk, turn = speaking()
    talk.interrupt(turn, id="x")
    turn = talk.ask()
    assert talk.append_text(turn, "again ")
    assert talk.interrupt(turn, id="x").duplicate
    assert talk.append_text(turn, "and again")
    talk.send(Interrupt(id=InterruptId("asked"), turn_id=turn))
    assert talk.types()[-1] == "error"
    assert talk.append_text(turn, " and on")
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.text == "again and again and on"
    assert talk.numbers() == list(range(1, talk.end_of(turn).seq + 1))


@pytest.mark.parametrize(("turn_id", "asked_by"), [("t0", None), ("t0", "asked"), (None, "other")])
def test_an_interrupt_of_something_else_loses_no_text(turn_id: str | None, asked_by: str | None) -> None:
    """Of a turn that is named with the input of this one, it ends this one."""
    talk, turn = speaking()
    result = talk.interrupt(None if turn_id is None else TurnId(turn_id), asked_by=asked_by)
    assert (result.turn_id == turn) is (asked_by == "asked")
    if result.turn_id is None:
        assert talk.append_text(turn, "three")
        talk.interrupt(turn)
    text = "One two " if asked_by == "asked" else "One two three"
    assert talk.end_of(turn).heard.text == text


def test_a_report_of_what_was_played_wins_over_what_was_written() -> None:
    """With the interrupt or before it; with sound, the sound's duration counts, too."""
    talk, turn = speaking()
    talk.interrupt(turn, played=Played(chars=3))
    assert talk.end_of(turn).heard.text == "One"
    talk, turn = speaking()
    talk.send(Playback(turn_id=turn, chars=5))
    assert talk.append_text(turn, "three")
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.text == "One t"
    talk, turn = speaking()
    talk.emit(turn, AudioDelta(audio=b"\0\0", start_ms=0, duration_ms=40, text="sound"))
    assert talk.append_text(turn, "three")
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.audio_ms == 40


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_turn_remembers_so_much_and_no_more(beyond: int) -> None:
    """Up to its bound the whole text is heard, beyond that what it keeps."""
    talk, turn = speaking("x" * 8000, *["x" * 8000] * 15)
    talk.emit(turn, *["y" * 1000] * 3, "y" * (MAX_TURN_CHARS - 16 * 8000 - 3000 + beyond))
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert len(end.heard.text) == MAX_TURN_CHARS
    assert end.heard.seq == end.last_seq == end.seq - 1


def test_an_empty_run_has_not_taken_anything() -> None:
    """The last number of the turn is then that of something else."""
    talk, turn = speaking("One ")
    talk.emit(turn, Thought(text="hm"))
    open_run(talk, turn)
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.heard.seq, end.last_seq) == ("One ", end.seq - 1, end.seq - 1)


def test_an_empty_run_is_no_output_of_its_turn() -> None:
    """The number before it is that of the turn's start."""
    talk = Talk()
    turn = talk.ask()
    open_run(talk, turn)
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.heard.seq, end.last_seq, end.seq) == ("", 0, 2, 3)


def test_deferred_text_is_not_heard() -> None:
    """It has no number yet, so the interrupt purges it (contract 2)."""
    talk, turn = speaking("One ")
    run = open_run(talk, turn)
    run.deferred = ["two ", "three"]
    talk.interrupt(turn)
    end = talk.end_of(turn)
    assert (end.heard.text, end.last_seq, end.seq) == ("One ", end.heard.seq, end.heard.seq + 1)
    assert talk.session.turn(turn).queued_bytes == 0
    assert (run.open, list(run.deferred)) == (False, [])


def test_what_the_session_does_afterwards_does_not_reach_a_closed_run() -> None:
    """A host that still holds it opens another: the numbers are those of the session."""
    talk, turn = speaking("One ")
    run = open_run(talk, turn)
    talk.emit(turn, Thought(text="hm"))
    assert not run.open
    again = open_run(talk, turn)
    assert again is not run
    assert again.next_seq == run.next_seq + 1


# --- a client that comes back -------------------------------------------------------------------------


@pytest.mark.parametrize("noticed", [False, True])
@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
@pytest.mark.parametrize("seen", [0, 2, 3, 4])
def test_a_client_resumes_in_the_middle_of_a_run(seen: int, codec: Codec, noticed: bool) -> None:
    """From any of its numbers, in any codec, whether the old line's loss was noticed or not."""
    talk, turn = speaking("One ", "two ")
    run = open_run(talk, turn)
    top = talk.numbers()[-1]
    if noticed:
        talk.detach()
    resume = talk.resume(talk._token, seen)
    talk.session.attach(codec, Token("new"), talk.now, resume=resume)
    assert not run.open
    replayed = []
    while frames := talk.session.output.next_frames(True, 1 << 20):
        replayed += [codec.decode_server(frame) for frame in frames]
    numbers = [event.seq for event in replayed if getattr(event, "seq", 0)]  # type: ignore[union-attr]
    assert numbers == list(range(seen + 1, top + 1))
    texts = [event.text for event in replayed if isinstance(event, TextDelta)]
    assert "".join(texts) == "One two "[4 * max(0, seen - 2) :]
    again = open_run(talk, turn)
    assert (again.next_seq, again.codec) == (top + 1, codec)
    frame = again.append("three", talk.now)
    assert frame is not None
    assert codec.decode_server(frame) == TextDelta(seq=Seq(top + 1), turn_id=turn, text="three")
    talk.session.receive(Interrupt(id=InterruptId("x")), talk.now)
    ended = talk.session.turn(turn).fold.ended
    assert ended is not None
    assert (ended.heard.text, ended.heard.seq) == ("One two three", top + 1)


def test_a_resume_lowers_what_was_heard_to_what_arrived() -> None:
    """The old socket took all of the run, and the line was lost before it came (contract 7)."""
    talk, turn = speaking("One ", "two ", "three")
    talk.open = False
    talk.attach(3)
    talk.interrupt(turn)
    talk.open = True
    talk.flush()
    assert talk.end_of(turn).heard.text == "One "


def test_deferred_text_waits_for_a_client_that_comes_back() -> None:
    """It was never numbered; the client gets it behind the replay, in its order."""
    talk, turn = speaking("One ")
    run = open_run(talk, turn)
    run.deferred = ["two ", "three"]
    mark = talk.mark()
    talk.attach(0)
    shown = talk.events[mark:]
    assert "".join(event.text for event in shown if isinstance(event, TextDelta)) == "One two three"
    numbers = [event.seq for event in shown if getattr(event, "seq", 0)]  # type: ignore[union-attr]
    assert numbers == list(range(1, 6))


def test_deferred_text_goes_to_the_log_when_the_client_is_lost() -> None:
    """The turn goes on without it (contract 11)."""
    talk, turn = speaking("One ")
    run = open_run(talk, turn)
    run.deferred = ["two ", "three"]
    talk.detach()
    assert (run.open, list(run.deferred)) == (False, [])
    assert talk.session.turn(turn).queued_bytes == 0
    talk.events.clear()
    talk.attach(0)
    assert "".join(event.text for event in talk.of(TextDelta)) == "One two three"


def test_input_id_of_an_open_run_is_not_over() -> None:
    """Nothing of the run is needed to see that its turn goes on."""
    talk, turn = speaking()
    run = open_run(talk, turn)
    assert not talk.session.side_channel.is_over(InputId("asked"))
    assert run.open
