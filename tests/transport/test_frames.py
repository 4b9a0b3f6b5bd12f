"""What the fast path of reading takes, and where it may take over again."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from bargein_server.transport.frames import HEADERS, PREPARED, Boundaries, header, only_message

ROOM = 100_000
PAYLOADS = st.binary(max_size=140) | st.sampled_from([300, 65_535, 65_536]).map(bytes)
DATA = st.sampled_from([Opcode.TEXT, Opcode.BINARY])


def frame(opcode: Opcode, payload: bytes, fin: bool = True, mask: bool = True) -> bytes:
    """Return the bytes that a client sends."""
    return Frame(opcode, payload, fin=fin).serialize(mask=mask)


@given(DATA, PAYLOADS)
def test_a_message_that_came_alone_is_taken(opcode: Opcode, payload: bytes) -> None:
    """Its payload, and whether it is text; longer ones than 64 KiB are left to the parser."""
    taken = only_message(frame(opcode, payload), ROOM)
    assert taken == ((payload, opcode is Opcode.TEXT) if len(payload) < 65536 else None)


@given(DATA, st.binary(min_size=1, max_size=300), st.data())
def test_anything_else_is_left_to_the_parser(opcode: Opcode, payload: bytes, data: st.DataObject) -> None:
    """A part of a frame, more than one, fragments, control frames, and what no client may send."""
    whole = frame(opcode, payload)
    part = data.draw(st.integers(0, len(whole) - 1))
    reserved = bytes([whole[0] | data.draw(st.sampled_from([0x10, 0x20, 0x40]))]) + whole[1:]
    unknown = bytes([0x83]) + whole[1:]
    for read in (
        whole[:part],
        whole + whole[:1],
        whole + whole,
        frame(opcode, payload, fin=False),
        frame(opcode, payload, mask=False),
        frame(Opcode.CONT, payload),
        *(frame(control, payload[:125]) for control in (Opcode.PING, Opcode.PONG, Opcode.CLOSE)),
        reserved,
        unknown,
    ):
        assert only_message(read, ROOM) is None
    assert only_message(whole, len(whole) - 1) is None


def test_a_length_that_is_longer_than_it_must_be_is_left_to_the_parser() -> None:
    """RFC 6455 section 5.2 asks for the shortest form."""
    short = frame(Opcode.TEXT, b"abc")
    long = short[:1] + b"\xfe\x00\x03" + short[2:]
    assert only_message(short, ROOM) == (b"abc", True)
    assert only_message(long, ROOM) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(Opcode)), st.binary(max_size=300), st.booleans()), max_size=6),
    st.lists(st.integers(1, 20) | st.integers(1, 1000), min_size=1, max_size=30),
)
def test_it_is_known_where_a_frame_begins(frames: list[tuple[Opcode, bytes, bool]], sizes: list[int]) -> None:
    """However the stream of frames is cut into reads, headers included."""
    written = [
        frame(opcode, payload[:125] if opcode >= Opcode.CLOSE else payload, mask=mask)
        for opcode, payload, mask in frames
    ]
    stream, ends = b"".join(written), {0, *accumulate(map(len, written))}
    boundaries, at = Boundaries(), 0
    while at < len(stream):
        size = sizes[at % len(sizes)]
        read = stream[at : at + size]
        at += len(read)
        assert boundaries.follow(read) is (at in ends)


@pytest.mark.parametrize("cut", [1, 2, 5, 9, 10, 13, 14, 70_000])
def test_it_is_known_for_frames_whose_length_takes_eight_bytes(cut: int) -> None:
    """Wherever in its header or its payload the frame is cut."""
    whole, boundaries = frame(Opcode.BINARY, bytes(70_000)), Boundaries()
    assert [boundaries.follow(part) for part in (whole[:cut], whole[cut:], whole)] == [False, True, True]


@pytest.mark.parametrize("size", [0, 1, 125, 126, PREPARED - 1, PREPARED, 65535, 65536, 100_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_header_is_that_of_a_whole_unmasked_message(opcode: Opcode, size: int) -> None:
    """As `websockets` would write it; the short ones are prepared."""
    expected = frame(opcode, bytes(size), mask=False)[: -size or None]
    assert header(opcode, size) == expected
    if size < PREPARED:
        assert HEADERS[opcode][size] == expected
