"""The replay log against a list of frames, and the bound on snapshots."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_protocol import (
    JSON,
    CallId,
    ClientEvent,
    Codec,
    Heard,
    IndexedText,
    LaneState,
    Seq,
    ServerEvent,
    Snapshot,
    TextDelta,
    ToolState,
    TurnEnded,
    TurnId,
    TurnState,
    UnknownEvent,
)
from bargein_server.core.replay_log import SNAPSHOT_BYTES, MemoryLog, bounded_snapshot
from bargein_server.core.text_run import MAX_UNSETTLED, TextRun


class Backwards:
    """A second codec: JSON, written backwards."""

    subprotocol = "backwards"
    text = False

    def encode(self, event: ClientEvent | ServerEvent) -> bytes:
        return JSON.encode(event)[::-1]

    def decode_client(self, frame: bytes) -> ClientEvent:
        return JSON.decode_client(frame[::-1])

    def decode_server(self, frame: bytes) -> ServerEvent | UnknownEvent:
        return JSON.decode_server(frame[::-1])


BACKWARDS: Codec = Backwards()


class Entry(NamedTuple):
    """What is appended."""

    text: str
    codec: Codec
    turn_id: TurnId


ENTRIES = st.builds(
    Entry,
    st.text("ab", max_size=40),
    st.sampled_from([JSON, BACKWARDS]),
    st.sampled_from([TurnId(""), TurnId("t1"), TurnId("t2")]),
)


def frame_of(entry: Entry, seq: int) -> bytes:
    return entry.codec.encode(TextDelta(seq=Seq(seq), turn_id=entry.turn_id, text=entry.text))


class Model:
    """The whole history, and what of it may be left."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.entries: list[tuple[bytes, Entry]] = []
        self.first = 1
        self._most = (max_events, max_bytes)
        self._least = (max_events - max_events // 16, max_bytes - max_bytes // 16)

    def kept(self) -> tuple[int, int]:
        frames = [frame for frame, _ in self.entries[self.first - 1 :]]
        return len(frames), sum(map(len, frames))

    def append(self, entry: Entry) -> bytes:
        frame = frame_of(entry, len(self.entries) + 1)
        self.entries.append((frame, entry))
        if any(kept > most for kept, most in zip(self.kept(), self._most, strict=True)):
            while any(kept > least for kept, least in zip(self.kept(), self._least, strict=True)):
                self.first += 1
        return frame


@settings(max_examples=150, deadline=None)
@given(st.lists(ENTRIES, max_size=80), st.integers(1, 40), st.integers(1, 3000))
def test_it_holds_the_last_frames_within_both_bounds(
    entries: list[Entry], max_events: int, max_bytes: int
) -> None:
    """Whatever is appended: contiguous, bounded in events and bytes, each frame as it was, with its turn."""
    log, model = MemoryLog(max_events, max_bytes), Model(max_events, max_bytes)
    for entry in entries:
        log.append(model.append(entry), entry.codec, entry.turn_id)
        assert (log.first, log.top) == (model.first, len(model.entries))
        events, size = model.kept()
        assert events <= max_events
        assert size <= max_bytes
        for seq in range(log.first, log.top + 1):
            frame, was = model.entries[seq - 1]
            assert log.read(Seq(seq), was.codec) == (frame, was.turn_id)


@given(st.lists(ENTRIES, min_size=1, max_size=20))
def test_it_is_read_in_any_codec(entries: list[Entry]) -> None:
    """A client that comes back with another codec gets the same events."""
    log = MemoryLog(100, 100_000)
    for seq, entry in enumerate(entries, 1):
        log.append(frame_of(entry, seq), entry.codec, entry.turn_id)
    for codec in (JSON, BACKWARDS):
        for seq, entry in enumerate(entries, 1):
            expected = TextDelta(seq=Seq(seq), turn_id=entry.turn_id, text=entry.text)
            frame, turn_id = log.read(Seq(seq), codec)
            assert (codec.decode_server(frame), turn_id) == (expected, entry.turn_id)


@pytest.mark.parametrize("seq", [-1, 0, 1, 2, 21, 100])
def test_what_is_not_there_is_a_key_error(seq: int) -> None:
    """Before the first that is left and after the last."""
    log = MemoryLog(16, 100_000)
    assert (log.first, log.top) == (1, 0)
    with pytest.raises(KeyError):
        log.read(Seq(1), JSON)
    for _ in range(20):
        log.append(b"x", JSON, TurnId("t"))
    assert log.first > 2
    with pytest.raises(KeyError, match=f"expected a number from {log.first} to 20, got {seq}"):
        log.read(Seq(seq), JSON)


def test_a_frame_beyond_the_bound_of_bytes_leaves_the_log_empty() -> None:
    """Its number counts all the same; the next one can be read."""
    log = MemoryLog(16, 100)
    log.append(b"small", JSON, TurnId("t"))
    log.append(b"x" * 101, JSON, TurnId("t"))
    assert (log.first, log.top) == (3, 2)
    log.append(b"next", JSON, TurnId("u"))
    assert log.read(Seq(3), JSON) == (b"next", "u")


def test_a_frame_costs_its_bytes_and_few_more() -> None:
    """Turns and codecs are kept once for each stretch of frames, not for each frame."""
    log = MemoryLog(4096, 1024 * 1024)
    for n in range(100_000):
        log.append(b"x" * 10, JSON, TurnId(f"t{n // 1000}"))
    assert len(log._runs) <= 4096 // 1000 + 2
    assert sum(run.next_seq - run.first for run in log._runs) == log.top - log.first + 1 <= 4096


class Writer:
    """Appends text and frames to a log as a sequencer does, and keeps what it appended.

    Args:
        log: The log.
        at_once: Whether each piece of text is settled alone.
    """

    def __init__(self, log: MemoryLog, at_once: bool = False) -> None:
        self.log = log
        self.frames: list[tuple[bytes, TurnId]] = []
        self.texts: dict[TurnId, IndexedText] = {}
        self.runs: list[TextRun] = []
        self._at_once = at_once
        self._run: TextRun | None = None

    def text(self, turn: TurnId, text: str, codec: Codec = JSON) -> None:
        """Append text to the open run, or to a new one."""
        run = self._run
        if run is not None and (run.turn_id != turn or run.codec is not codec):
            self.settle()
            run = None
        if run is None:
            whole, seq = self.texts.setdefault(turn, IndexedText()), Seq(self.log.top + 1)
            last = self.runs[-1] if self.runs else None
            if last is None or last.turn_id != turn or last.next_seq != seq or last.codec is not codec:
                last = TextRun(codec, turn, whole, seq, seq)
                self.runs.append(last)
            run = self._run = last
            run.pieces, run.room = whole.tail(), whole.max_chars - whole.length
        frame = run.append(text, 0.0)
        assert frame is not None
        self.frames.append((frame, turn))
        if self._at_once or run.unsettled == MAX_UNSETTLED:
            self.settle()

    def frame(self, turn: TurnId, frame: bytes) -> None:
        """Append a frame, behind the open run."""
        self.settle()
        self.frames.append((frame, turn))
        self.log.append(frame, JSON, turn)

    def settle(self) -> None:
        """Settle the open run."""
        run, self._run = self._run, None
        if run is not None and run.unsettled:
            self.log.append_text(run, run.settle())

    def check(self) -> None:
        """Compare what the log has with what was appended."""
        self.settle()
        assert self.log.top == len(self.frames)
        for seq in range(self.log.first, self.log.top + 1):
            assert self.log.read(Seq(seq), JSON) == self.frames[seq - 1]
        for seq in (self.log.first - 1, self.log.top + 1):
            with pytest.raises(KeyError):
                self.log.read(Seq(seq), JSON)


TURNS = [TurnId("t0"), TurnId("t1"), TurnId("t2")]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("text", "text", "frame", "settle")),
            st.text(min_size=1, max_size=20),
            st.sampled_from(TURNS),
        ),
        max_size=200,
    ),
    st.integers(1, 150),
)
def test_text_is_read_as_it_was_framed(entries: list[tuple[str, str, TurnId]], max_events: int) -> None:
    """Its characters are stored elsewhere; turns, frames and numbers may come in any order."""
    writer = Writer(MemoryLog(max_events, 10**6))
    for kind, text, turn in entries:
        if kind == "text":
            writer.text(turn, text)
        elif kind == "frame":
            writer.frame(turn, frame_of(Entry(text, JSON, turn), len(writer.frames) + 1))
        else:
            writer.settle()
        assert writer.log.top - writer.log.first < max_events
    writer.check()


def test_text_counts_with_its_bytes() -> None:
    """The bound of bytes holds for it too, and no frame of it is kept."""
    writer = Writer(MemoryLog(1000, 1600), at_once=True)
    for _ in range(100):
        writer.text(TURNS[0], "x" * 20)
        assert sum(len(frame) for frame, _ in writer.frames[writer.log.first - 1 :]) <= 1600
    assert writer.log.top - writer.log.first + 1 >= 15
    assert writer.log._runs == writer.runs
    writer.check()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.text("aé", min_size=1, max_size=9), min_size=1, max_size=9), st.booleans()),
        max_size=30,
    ),
    st.integers(1, 60),
)
def test_many_pieces_are_stored_as_they_would_be_one_by_one(
    runs: list[tuple[list[str], bool]], max_events: int
) -> None:
    """In runs and piece by piece, with frames between them."""
    whole, single = Writer(MemoryLog(max_events, 2000)), Writer(MemoryLog(max_events, 2000), at_once=True)
    for pieces, frame_after in runs:
        for writer in (whole, single):
            for piece in pieces:
                writer.text(TURNS[0], piece)
            writer.settle()
            if frame_after:
                writer.frame(TURNS[0], b"between")
        assert whole.log.top == single.log.top
        assert whole.log.top - whole.log.first < max_events
    assert whole.frames == single.frames
    whole.check()
    single.check()


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(1, 30), st.integers(100, 3000))
def test_a_run_is_trimmed_while_it_is_open(counts: list[int], max_events: int, max_bytes: int) -> None:
    """The log lets go of its first pieces and takes more at its end; what is left can be read."""
    writer = Writer(MemoryLog(max_events, max_bytes))
    number = 0
    for pieces in counts:
        for _ in range(pieces):
            number += 1
            writer.text(TURNS[0], f"{number} ")
        writer.settle()
        [run] = writer.runs
        log = writer.log
        assert (run.first, run.next_seq) == (log.first, log.top + 1)
        assert log.top - log.first < max_events
        assert 0 <= run.size <= max_bytes
        assert log._size == run.size
    writer.check()


def test_a_run_that_was_trimmed_away_goes_on() -> None:
    """All of it fell off; its next piece is the log's first."""
    writer = Writer(MemoryLog(1000, 200))
    writer.text(TURNS[0], "one")
    writer.text(TURNS[0], "x" * 300)
    writer.settle()
    [run] = writer.runs
    assert (writer.log.first, writer.log.top, writer.log._size, run.size) == (3, 2, 0, 0)
    writer.text(TURNS[0], "three")
    writer.check()
    assert writer.runs == [run] == writer.log._runs
    assert (writer.log.first, writer.log.top) == (3, 3)


def test_a_run_is_read_in_any_codec() -> None:
    """Its pieces are encoded anew; each run has the codec of the client that it was written to."""
    writer = Writer(MemoryLog(100, 10_000))
    for text, codec in (("a", JSON), ("b", JSON), ("c", BACKWARDS), ("d", JSON)):
        writer.text(TURNS[0], text, codec)
    writer.settle()
    assert [run.codec for run in writer.runs] == [JSON, BACKWARDS, JSON]
    for codec in (JSON, BACKWARDS):
        for seq, text in enumerate("abcd", 1):
            expected = TextDelta(seq=Seq(seq), turn_id=TURNS[0], text=text)
            assert writer.log.read(Seq(seq), codec) == (codec.encode(expected), TURNS[0])


def test_the_end_of_a_turn_is_kept_as_the_event_that_it_is() -> None:
    """What was heard is in it, and stands in the turn's text already; it counts with its bytes."""
    log, turn = MemoryLog(100, 1000), TurnId("t")
    for n in range(1, 100, 2):
        log.append(frame_of(Entry("between", JSON, turn), n), JSON, turn)
        heard = Heard(seq=Seq(n), text="é" * 100)
        event = TurnEnded(
            turn_id=turn, seq=Seq(n + 1), status="interrupted", reason="client", last_seq=Seq(n), heard=heard
        )
        frame = JSON.encode(event)
        log.append(frame, JSON, turn, event)
        assert log.read(log.top, JSON) == (frame, "t")
        assert BACKWARDS.decode_server(log.read(log.top, BACKWARDS)[0]) == event
        assert sum(len(log.read(Seq(n), JSON)[0]) for n in range(log.first, log.top + 1)) <= 1000
    assert log.top - log.first >= 2


def test_frames_are_stored_as_they_were_given() -> None:
    """Nothing is decoded for a client of the same codec."""
    log = MemoryLog(16, 1000)
    log.append(b"not even a frame", JSON, TurnId("t"))
    assert log.read(Seq(1), JSON)[0] == b"not even a frame"
    with pytest.raises(Exception, match="malformed"):
        log.read(Seq(1), BACKWARDS)
    assert msgspec.json.decode(frame_of(Entry("a", JSON, TurnId("t")), 1))["seq"] == 1


def large(name: str, size: int) -> TurnState:
    tool = ToolState(call_id=CallId("c"), name="dump", output="o" * size, state="completed")
    return TurnState(turn_id=TurnId(name), lanes={"": LaneState(text=f"said by {name}", tools=[tool])})


def test_a_snapshot_at_its_bound_is_whole() -> None:
    """One byte more, and the oldest turn is told without its tool's output; its text is kept."""
    turns = [large("old", 1000), large("new", 1000)]
    size = sum(len(JSON.encode(Snapshot(through=Seq(7), turns=[turn]))) for turn in turns)
    assert bounded_snapshot(Seq(7), turns, size).turns == turns
    old, new = bounded_snapshot(Seq(7), turns, size - 1).turns
    assert old.cut
    assert (old.lanes[""].text, old.lanes[""].tools[0].output) == ("said by old", None)
    assert (old.lanes[""].tools[0].name, old.lanes[""].tools[0].state) == ("dump", "completed")
    assert new == turns[1]


def test_as_many_turns_are_cut_as_need_be() -> None:
    """From the oldest on, until the frame fits."""
    snapshot = bounded_snapshot(Seq(7), [large(str(n), 1000) for n in range(10)], 5000)
    assert len(JSON.encode(snapshot)) <= 5000
    cut = [turn.cut for turn in snapshot.turns]
    assert cut == sorted(cut, reverse=True)
    assert 0 < cut.count(False) < 10


def test_the_default_is_what_the_protocol_says() -> None:
    """8 MiB."""
    snapshot = bounded_snapshot(Seq(7), [large(str(n), 1024 * 1024) for n in range(9)])
    assert len(JSON.encode(snapshot)) <= SNAPSHOT_BYTES == 8_388_608
