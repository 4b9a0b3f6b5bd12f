"""The numbered stream of a session and the one connection that reads it."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    JSON,
    MESSAGEPACK,
    Cursor,
    Epoch,
    InputAccepted,
    InputId,
    InputText,
    Pong,
    ReplayDone,
    Seq,
    ServerEvent,
    TextDelta,
    TurnFold,
    TurnId,
    TurnStarted,
    UnknownEvent,
)
from bargein_server.core.lifecycle import Stage
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.sequencer import Sequencer
from bargein_server.core.turn_record import MAX_TURN_CHARS, TurnRecord

TURN, INPUT = TurnId("t"), InputId("i")


def accepted() -> InputAccepted:
    return InputAccepted(turn_id=TURN, input_id=INPUT)


def new_turn(turn_id: str = TURN) -> TurnRecord:
    return TurnRecord(TurnId(turn_id), InputText(id=INPUT, text="hello"), False)


def appended(stream: Sequencer, turn: TurnRecord, text: str) -> bytes:
    """Number a piece of text; returns its frame."""
    frame = stream.text_run(turn).append(text, 1.0)
    assert frame is not None
    return frame


def cursor(seq: int) -> Cursor:
    return Cursor(epoch=Epoch("e"), seq=Seq(seq))


@pytest.fixture
def stream() -> Sequencer:
    """A stream that nobody reads."""
    return Sequencer(Epoch("e"), MemoryLog(16, 100_000), JSON)


def ready(stream: Sequencer) -> list[ServerEvent | UnknownEvent]:
    """Take what must be written now."""
    return list(map(JSON.decode_server, stream.take_ready()))


def replayed(stream: Sequencer) -> list[int]:
    """Take the replay; returns its numbers."""
    seqs: list[int] = []
    while (entry := stream.next_replayed()) is not None:
        seqs.append(entry[2])
    return seqs


def test_an_event_is_numbered_and_logged_and_ready_in_one_step(stream: Sequencer) -> None:
    """For a live client: the number is in the event that is returned, in the log and in the frame."""
    stream.attach(JSON)
    for seq in (1, 2):
        event = stream.number(accepted())
        assert (event.seq, stream.top) == (seq, seq)
        assert ready(stream) == [event]


def test_without_a_client_events_go_to_the_log_alone(stream: Sequencer) -> None:
    """They are numbered, and an answer is dropped."""
    stream.number(accepted())
    stream.answer(Pong(id="p"))
    assert (stream.top, stream.live, stream.attached) == (1, False, False)
    stream.attach(JSON)
    assert ready(stream) == []
    assert stream.replay_from(cursor(0))
    assert replayed(stream) == [1]


def test_answers_are_ready_in_every_state_of_a_client(stream: Sequencer) -> None:
    """Also while it replays; numbered events are then kept for the replay."""
    stream.attach(JSON)
    stream.number(accepted())
    stream.replay_from(cursor(0))
    assert not stream.live
    stream.take_ready()
    stream.answer(Pong(id="p"))
    stream.number(TurnStarted(turn_id=TURN, input_id=INPUT))
    assert ready(stream) == [Pong(id="p")]
    assert replayed(stream) == [1, 2]
    assert ready(stream) == [ReplayDone(through=Seq(2))]


def test_what_is_numbered_after_the_replay_is_live(stream: Sequencer) -> None:
    """`replay.done` stands between the two."""
    stream.number(accepted())
    stream.attach(JSON)
    stream.replay_from(cursor(0))
    replayed(stream)
    live = stream.number(accepted())
    assert ready(stream) == [ReplayDone(through=Seq(1)), live]
    assert stream.next_replayed() is None


def test_a_text_is_handed_over_by_its_caller(stream: Sequencer) -> None:
    """It is numbered and logged, and not made ready a second time."""
    stream.attach(JSON)
    turn = new_turn()
    frame = appended(stream, turn, "word")
    assert JSON.decode_server(frame) == TextDelta(seq=Seq(1), turn_id=TURN, text="word")
    assert (stream.top, ready(stream), str(turn.fold.main_lane.text)) == (1, [], "word")
    assert (turn.fold.last_output_seq, turn.heard_position.taken) == (1, 1)
    stream.replay_from(cursor(0))
    assert stream.next_replayed() == (frame, TURN, 1)


def test_a_run_goes_on_until_anything_else_is_numbered(stream: Sequencer) -> None:
    """Settling it ends it for the caller alone; numbers, log and text have no seam."""
    stream.attach(JSON)
    turn = new_turn()
    first = stream.text_run(turn)
    first.append("a", 1.0)
    assert stream.text_run(turn) is first
    stream.settle()
    assert stream.text_run(turn) is first
    first.append("b", 2.0)
    stream.number(accepted())
    second = stream.text_run(turn)
    assert second is not first
    second.append("c", 3.0)
    assert (first.next_seq, second.first, stream.top) == (3, 4, 4)
    other = stream.text_run(new_turn("u"))
    assert other is not second
    assert turn.fold.last_seq == 4


def test_a_run_of_another_codec_is_another_run(stream: Sequencer) -> None:
    """A client that comes back may have chosen another; each run is logged in its own."""
    turn = new_turn()
    stream.attach(JSON)
    first = stream.text_run(turn)
    one = first.append("one", 1.0)
    stream.attach(MESSAGEPACK)
    second = stream.text_run(turn)
    assert second is not first
    two = second.append("two", 2.0)
    assert one is not None
    assert two is not None
    assert JSON.decode_server(one) == TextDelta(seq=Seq(1), turn_id=TURN, text="one")
    assert MESSAGEPACK.decode_server(two) == TextDelta(seq=Seq(2), turn_id=TURN, text="two")
    assert [stream.logged(Seq(seq), JSON) for seq in (1, 2)] == [
        JSON.encode(TextDelta(seq=Seq(seq), turn_id=TURN, text=text))
        for seq, text in ((1, "one"), (2, "two"))
    ]
    stream.attach(JSON)
    assert stream.text_run(turn) not in (first, second)


def test_settling_brings_every_record_up_to_date(stream: Sequencer) -> None:
    """The log, the turn's numbers, what was heard, the time of the last progress, and the count."""
    stream.attach(JSON)
    turn = new_turn()
    turn.progress_at = 5.0
    run = stream.text_run(turn)
    run.append("one ", 7.0)
    run.append("two", 8.0)
    assert stream._log.top == 0
    stream.settle()
    assert (stream._log.top, turn.fold.last_seq, turn.fold.last_output_seq) == (2, 2, 2)
    assert (turn.heard_position.taken, turn.progress_at, stream.handed) == (2, 8.0, 2)
    assert turn.fold.main_lane.text.length == 7
    turn.progress_at = 20.0
    run = stream.text_run(turn)
    run.append("three", 19.0)
    stream.settle()
    assert turn.progress_at == 20.0  # it was pulled again after that
    stream.settle()
    assert (stream._log.top, stream.handed) == (3, 3)


def test_text_that_nobody_takes_is_not_heard(stream: Sequencer) -> None:
    """Without a client, and while one replays, it goes to the log alone (contract 7)."""
    turn = new_turn()
    appended(stream, turn, "alone")
    stream.attach(JSON)
    assert (stream.top, turn.heard_position.taken, stream.handed) == (1, 0, 0)
    stream.replay_from(cursor(0))
    appended(stream, turn, "later")
    assert stream.taken_of(turn) is None
    assert (stream.top, turn.heard_position.taken, stream.handed) == (2, 0, 0)


def test_deferred_text_goes_back_into_the_queue_without_a_number(stream: Sequencer) -> None:
    """In its order, behind nothing; a turn that has ended gets none of it."""
    stream.attach(JSON)
    turn = new_turn()
    run = stream.text_run(turn)
    run.append("now ", 1.0)
    run.deferred = ["then ", "and then"]
    stream.settle()
    assert (stream.top, list(run.deferred), run.open) == (1, [], False)
    assert list(turn.next_texts()) == ["then ", "and then"]
    turn.purge(spare_sections=False)
    run = stream.text_run(turn)
    run.deferred = ["never"]
    turn.stage = Stage.ENDED
    stream.settle()
    assert (list(turn.next_texts()), turn.queued_bytes, list(run.deferred)) == ([], 0, [])


def test_what_is_handed_over_at_once_stands_behind_the_open_run(stream: Sequencer) -> None:
    """The frame leaves before the records of the run are up to date, with the number after its last."""
    handed: list[tuple[list[ServerEvent | UnknownEvent], int]] = []
    turn = new_turn()
    stream.attach(
        JSON, lambda frames: handed.append((list(map(JSON.decode_server, frames)), stream._log.top))
    )
    run = stream.text_run(turn)
    run.append("a", 1.0)
    run.append("b", 1.0)
    assert stream.taken_of(turn) == 2
    assert stream.taken_of(new_turn("u")) is None
    stream.answer(Pong(id="p"))
    event = stream.number(accepted(), at_once=True)
    assert handed == [([Pong(id="p"), event], 0)]
    assert stream._log.top == 3
    assert (event.seq, stream.top, ready(stream)) == (3, 3, [])
    assert [JSON.decode_server(stream.logged(Seq(3), JSON))] == [event]
    assert stream.taken_of(turn) is None


def test_text_beyond_what_a_turn_remembers_is_left_to_the_caller(stream: Sequencer) -> None:
    """The run takes no piece that its record could not keep whole; a shorter one fits."""
    turn = new_turn()
    turn.fold = TurnFold(TURN, max_chars=5)
    run = stream.text_run(turn)
    assert run.append("four", 1.0) is not None
    assert run.append("five", 1.0) is None
    assert run.append("5", 1.0) is not None
    assert run.append("6", 1.0) is None
    assert (stream.top, str(turn.fold.main_lane.text), turn.fold.main_lane.text.length) == (2, "four5", 5)


def test_text_past_a_full_record_goes_on_in_runs_of_the_log_alone() -> None:
    """It stays as cheap as other text, and the log keeps no more of it than of other text."""
    log = MemoryLog(4, 10_000_000)
    stream, turn = Sequencer(Epoch("e"), log, JSON), new_turn()
    whole = "x" * MAX_TURN_CHARS
    for text in (whole, "a", "b", whole[1:], "c", "d"):  # the rest of the second text is one character
        stream.settle()
        if stream.text_run(turn).append(text, 1.0) is None:
            turn.fold.apply(stream.number(TextDelta(turn_id=TURN, text=text)))
    stream.settle()
    assert str(turn.fold.main_lane.text) == whole
    assert turn.fold.last_output_seq == log.top == 6
    last = [JSON.decode_server(log.read(Seq(seq), JSON)[0]) for seq in (5, 6)]
    assert [(event.seq, event.text) for event in last if isinstance(event, TextDelta)] == [(5, "c"), (6, "d")]
    run = stream.text_run(turn)
    assert str(run.text) == "cd"
    assert appended(stream, turn, "e")


@pytest.mark.parametrize(("seq", "whole"), [(0, False), (3, False), (4, True), (19, True), (20, True)])
def test_a_replay_is_whole_when_the_log_reaches_back_to_the_cursor(seq: int, whole: bool) -> None:
    """The number after the cursor must still be there."""
    log = MemoryLog(16, 100_000)
    stream = Sequencer(Epoch("e"), log, JSON)
    for _ in range(20):
        stream.number(accepted())
    assert log.first == 5
    stream.attach(JSON)
    assert stream.replay_from(cursor(seq)) is whole


def test_a_replay_that_the_log_overtook_says_so(stream: Sequencer) -> None:
    """The client reads slowly and its place is trimmed away; after a snapshot it is live."""
    stream.number(accepted())
    stream.attach(JSON)
    stream.replay_from(cursor(0))
    for _ in range(40):
        stream.number(accepted())
    with pytest.raises(KeyError):
        stream.next_replayed()
    assert stream.replayed == 0
    stream.finish_replay()
    assert (stream.live, ready(stream)) == (True, [ReplayDone(through=Seq(41))])


def test_what_was_ready_for_a_lost_client_dies_with_it(stream: Sequencer) -> None:
    """Numbered frames are in the log; answers are asked for again."""
    for noticed in (True, False):
        stream.attach(JSON)
        stream.answer(Pong(id="p"))
        stream.number(accepted())
        if noticed:
            stream.detach()
            assert ready(stream) == []
        stream.attach(JSON)
        assert ready(stream) == []


def test_it_counts_what_a_client_gets(stream: Sequencer) -> None:
    """So that a silent time is seen: answers, live frames and replayed ones, and nothing else."""
    stream.number(accepted())
    stream.answer(Pong(id="nobody"))
    assert stream.handed == 0
    stream.attach(JSON)
    counts = []
    for action in (
        lambda: stream.answer(Pong(id="p")),
        lambda: stream.number(accepted()),
        lambda: appended(stream, new_turn(), "word"),
        lambda: stream.replay_from(cursor(2)),
        lambda: stream.number(accepted()),
        lambda: stream.next_replayed(),
    ):
        before = stream.handed
        action()
        counts.append(stream.handed - before)
    assert counts == [1, 1, 1, 0, 0, 1]
