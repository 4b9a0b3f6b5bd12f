"""The replay log against a list of frames."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_protocol import (
    JSON,
    ClientEvent,
    Codec,
    Heard,
    IndexedText,
    Seq,
    ServerEvent,
    TextDelta,
    TurnEnded,
    TurnId,
    UnknownEvent,
)
from bargein_server.core.replay_log import MemoryLog


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
    assert sum(len(run.entries) for run in log._runs) == log.top - log.first + 1 <= 4096


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.text(max_size=20), st.integers(0, 2)), max_size=200),
    st.integers(1, 150),
)
def test_what_is_spoken_is_read_as_it_was_framed(
    entries: list[tuple[bool, str, int]], max_events: int
) -> None:
    """Its text stands elsewhere; turns, frames and numbers may come in any order."""
    log = MemoryLog(max_events, 10**6)
    texts = [IndexedText() for _ in range(3)]
    frames: list[bytes] = []
    for is_spoken, text, voice in entries:
        entry = Entry(text, JSON, TurnId(f"t{voice}"))
        frame = frame_of(entry, len(frames) + 1)
        frames.append(frame)
        if is_spoken:
            texts[voice].append(text, len(frames))
            log.append_spoken(1, len(frame), JSON, entry.turn_id, texts[voice])
        else:
            log.append(frame, JSON, entry.turn_id)
        assert log.top - log.first < max_events
    for seq in range(log.first, log.top + 1):
        assert log.read(Seq(seq), JSON) == (frames[seq - 1], f"t{entries[seq - 1][2]}")


def test_what_is_spoken_counts_with_its_bytes() -> None:
    """The bound of bytes holds for it too, and no frame of it is kept."""
    log, text = MemoryLog(1000, 1600), IndexedText()
    for seq in range(1, 101):
        text.append("x" * 20, seq)
        log.append_spoken(1, 100, JSON, TurnId("t"), text)
        assert (log.top - log.first + 1) * 100 <= 1600
    assert log.top - log.first + 1 >= 15
    assert not any(entry for run in log._runs for entry in run.entries)


@given(
    st.lists(
        st.tuples(st.lists(st.text("aé", max_size=9), min_size=1, max_size=9), st.booleans()), max_size=30
    ),
    st.integers(1, 60),
)
def test_many_pieces_are_stored_as_they_would_be_one_by_one(
    runs: list[tuple[list[str], bool]], max_events: int
) -> None:
    """An utterance and single texts, with frames between them."""
    turn, whole, single = TurnId("t"), MemoryLog(max_events, 2000), MemoryLog(max_events, 2000)
    text = IndexedText()
    for pieces, frame_after in runs:
        sizes = []
        for seq, piece in enumerate(pieces, whole.top + 1):
            text.append(piece, seq)
            sizes.append(len(frame_of(Entry(piece, JSON, turn), seq)))
        whole.append_spoken(len(pieces), sum(sizes), JSON, turn, text)
        for size in sizes:
            single.append_spoken(1, size, JSON, turn, text)
        if frame_after:
            for log in (whole, single):
                log.append(b"between", JSON, turn)
        assert whole.top == single.top
        assert whole.top - whole.first < max_events
        for seq in range(max(whole.first, single.first), whole.top + 1):
            assert whole.read(Seq(seq), JSON) == single.read(Seq(seq), JSON)


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
