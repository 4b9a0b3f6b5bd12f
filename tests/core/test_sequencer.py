"""The numbered stream of a session and the one connection that reads it."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    JSON,
    Cursor,
    Epoch,
    InputAccepted,
    InputId,
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
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.sequencer import Sequencer

TURN, INPUT = TurnId("t"), InputId("i")


def accepted() -> InputAccepted:
    return InputAccepted(turn_id=TURN, input_id=INPUT)


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
        event = stream.commit(accepted())
        assert (event.seq, stream.top) == (seq, seq)
        assert ready(stream) == [event]


def test_without_a_client_events_go_to_the_log_alone(stream: Sequencer) -> None:
    """They are numbered, and an answer is dropped."""
    stream.commit(accepted())
    stream.answer(Pong(id="p"))
    assert (stream.top, stream.live, stream.attached) == (1, False, False)
    stream.attach(JSON)
    assert ready(stream) == []
    assert stream.replay_from(cursor(0))
    assert replayed(stream) == [1]


def test_answers_are_ready_in_every_state_of_a_client(stream: Sequencer) -> None:
    """Also while it replays; numbered events are then kept for the replay."""
    stream.attach(JSON)
    stream.commit(accepted())
    stream.replay_from(cursor(0))
    assert not stream.live
    stream.take_ready()
    stream.answer(Pong(id="p"))
    stream.commit(TurnStarted(turn_id=TURN, input_id=INPUT))
    assert ready(stream) == [Pong(id="p")]
    assert replayed(stream) == [1, 2]
    assert ready(stream) == [ReplayDone(through=Seq(2))]


def test_what_is_numbered_after_the_replay_is_live(stream: Sequencer) -> None:
    """`replay.done` stands between the two."""
    stream.commit(accepted())
    stream.attach(JSON)
    stream.replay_from(cursor(0))
    replayed(stream)
    live = stream.commit(accepted())
    assert ready(stream) == [ReplayDone(through=Seq(1)), live]
    assert stream.next_replayed() is None


def test_a_text_is_handed_over_by_its_caller(stream: Sequencer) -> None:
    """It is numbered and logged, and not made ready a second time."""
    stream.attach(JSON)
    fold = TurnFold(TURN)
    frame = stream.commit_text(fold, "word")
    assert JSON.decode_server(frame) == TextDelta(seq=Seq(1), turn_id=TURN, text="word")
    assert (stream.top, ready(stream), str(fold.main_lane.text)) == (1, [], "word")
    stream.replay_from(cursor(0))
    assert stream.next_replayed() == (frame, TURN, 1)


def test_a_text_that_cannot_be_encoded_takes_no_number(stream: Sequencer) -> None:
    """The caller mends it and comes again."""
    with pytest.raises(UnicodeEncodeError):
        stream.commit_text(TurnFold(TURN), "\ud800")
    stream.commit_text(TurnFold(TURN), "mended")
    assert stream.top == 1


def test_text_beyond_what_a_turn_remembers_is_replayed_all_the_same(stream: Sequencer) -> None:
    """The fold drops it, so the log keeps the frame."""
    fold = TurnFold(TURN, max_chars=5)
    stream.attach(JSON)
    frames = [stream.commit_text(fold, text) for text in ("four", "five", "six")]
    assert str(fold.main_lane.text) == "fourf"
    stream.replay_from(cursor(0))
    assert [stream.next_replayed() for _ in frames] == [(frame, TURN, n) for n, frame in enumerate(frames, 1)]


@pytest.mark.parametrize(("seq", "whole"), [(0, False), (3, False), (4, True), (19, True), (20, True)])
def test_a_replay_is_whole_when_the_log_reaches_back_to_the_cursor(seq: int, whole: bool) -> None:
    """The number after the cursor must still be there."""
    log = MemoryLog(16, 100_000)
    stream = Sequencer(Epoch("e"), log, JSON)
    for _ in range(20):
        stream.commit(accepted())
    assert log.first == 5
    stream.attach(JSON)
    assert stream.replay_from(cursor(seq)) is whole


def test_a_replay_that_the_log_overtook_says_so(stream: Sequencer) -> None:
    """The client reads slowly and its place is trimmed away; after a snapshot it is live."""
    stream.commit(accepted())
    stream.attach(JSON)
    stream.replay_from(cursor(0))
    for _ in range(40):
        stream.commit(accepted())
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
        stream.commit(accepted())
        if noticed:
            stream.detach()
            assert ready(stream) == []
        stream.attach(JSON)
        assert ready(stream) == []


def test_it_counts_what_a_client_gets(stream: Sequencer) -> None:
    """So that a silent time is seen: answers, live frames and replayed ones, and nothing else."""
    stream.commit(accepted())
    stream.answer(Pong(id="nobody"))
    assert stream.handed == 0
    stream.attach(JSON)
    counts = []
    for action in (
        lambda: stream.answer(Pong(id="p")),
        lambda: stream.commit(accepted()),
        lambda: stream.commit_text(TurnFold(TURN), "word"),
        lambda: stream.replay_from(cursor(2)),
        lambda: stream.commit(accepted()),
        lambda: stream.next_replayed(),
    ):
        before = stream.handed
        action()
        counts.append(stream.handed - before)
    assert counts == [1, 1, 1, 0, 0, 1]
