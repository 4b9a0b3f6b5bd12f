"""The WebSocket protocol: frames of every opcode, the closing handshake, time limits, attaching."""

from __future__ import annotations

import asyncio
import gc
import itertools
from typing import Any
from weakref import ref

import pytest

from bargein_protocol.errors import FLOODED
from bargein_server.transport import sockets
from bargein_server.transport.sockets import READ_BYTES, SLICE_S
from bargein_server.transport.websocket_protocol import CLOSE_S, EXTENSION
from bargein_server.transport.wires import TransportWire
from fake_transport import Bench
from raw_websocket import ANSWERS_ALL, HEAD, frame

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Return the close frame that a server sends."""
    payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return bytes([0x88, len(payload)]) + payload


def code_of(data: bytes) -> int:
    """Return the code of the close frame with which the data begins."""
    assert data[0] == 0x88
    return int.from_bytes(data[2:4], "big")


def wire_of(bench: Bench) -> TransportWire:
    """Return a wire on the protocol."""
    return TransportWire(bench.protocol, True)


async def test_messages_are_handed_over_in_the_callback_that_read_them() -> None:
    """Text and bytes, whole or in fragments, several in one read."""
    bench = Bench()
    assert (await bench.open()).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    bench.read(frame(TEXT, b"one") + frame(BINARY, b"\xff"))
    assert bench.attached.messages == [(b"one", True), (b"\xff", False)]
    bench.read(frame(TEXT, b"t", final=False) + frame(PING) + frame(CONT, b"w", final=False))
    bench.read(frame(CONT, b"o"))
    assert bench.attached.messages[2:] == [(b"two", True)]
    bench.lose()
    assert bench.attached.losses == 1
    assert bench.state.connections == set()


async def test_a_pong_leaves_before_the_answer_to_a_later_message() -> None:
    """The order of the peer's frames is that of their answers."""
    bench = Bench()
    await bench.open()
    wire = wire_of(bench)
    bench.attached.answer = lambda message: wire.write([b"answer"])
    bench.read(frame(PING, b"p") + frame(TEXT, b"hello"))
    assert bench.transport.take() == b"\x8a\x01p" + b"\x81\x06answer"
    bench.lose()


async def test_a_message_before_a_close_frame_in_one_read_is_handed_over() -> None:
    """A ping between them takes nothing away, and the close frame is answered last."""
    bench = Bench()
    await bench.open()
    wire = wire_of(bench)
    bench.attached.answer = lambda message: wire.write([b"answer"])
    bench.read(frame(PING) + frame(TEXT, b"hello") + frame(CLOSE, b"\x03\xe8"))
    assert bench.attached.messages == [(b"hello", True)]
    assert bench.transport.take() == b"\x81\x06answer" + b"\x8a\x00" + close_frame(1000)
    assert bench.transport.is_closing()
    bench.lose()


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        (b"\x03\xe8", close_frame(1000)),
        (b"\x0f\xa0bye", close_frame(4000, "bye")),
        (b"", close_frame(None)),
        (b"\x03", close_frame(1002, "close frame too short")),
        (b"\x03\xed", close_frame(1002, "invalid status code")),
    ],
)
async def test_a_close_frame_is_answered_and_the_transport_closed(payload: bytes, answer: bytes) -> None:
    """The same code goes back; one that may not be sent is a violation."""
    bench = Bench()
    await bench.open()
    bench.read(frame(CLOSE, payload))
    assert bench.transport.take() == answer
    assert bench.transport.is_closing()
    bench.lose()


@pytest.mark.parametrize("payload", [b"\x03\xe8", b"\x0f\xa0bye", b""])
async def test_a_peer_may_close_in_the_middle_of_a_message(payload: bytes) -> None:
    """RFC 6455 section 5.4: control frames may stand between the fragments of a message."""
    bench = Bench()
    await bench.open()
    bench.read(frame(TEXT, b"half", final=False) + frame(CLOSE, payload))
    assert bench.transport.take() == bytes([0x88, len(payload)]) + payload
    assert bench.attached.messages == []
    bench.lose()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x00", 1002),
        (frame(3), 1002),
        (frame(CONT, b"x"), 1002),
        (frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xe2\x82", final=False) + frame(CONT, b"x"), 1007),
        (frame(BINARY, bytes(1001)), 1009),
        (frame(BINARY, bytes(600), final=False) + frame(CONT, bytes(600)), 1009),
    ],
)
async def test_a_violation_is_closed_with_its_code(data: bytes, code: int) -> None:
    """Messages before it are handed over, and nothing of it."""
    bench = Bench(ws_max_size=1000)
    await bench.open()
    bench.read(frame(TEXT, b"fine") + data)
    assert bench.attached.messages == [(b"fine", True)]
    assert bench.transport.is_closing()
    assert code_of(bench.transport.take()) == code
    bench.lose()


@pytest.mark.parametrize(("pieces", "taken"), [(4, True), (5, False)])
async def test_a_message_has_a_bounded_number_of_pieces(pieces: int, taken: bool) -> None:
    """Empty ones count as well; one too many closes with 1009."""
    bench = Bench(limits={"max_pieces": 4})
    await bench.open()
    bench.read(frame(TEXT, b"x", final=False) + frame(CONT, final=False) * (pieces - 2) + frame(CONT))
    assert bench.attached.messages == [(b"x", True)] * taken
    answer = bench.transport.take()
    assert answer == b"" if taken else code_of(answer) == 1009
    bench.read(frame(TEXT, b"y"))  # a TLS transport may deliver it after its close
    assert len(bench.attached.messages) == 2 * taken
    bench.lose()


def parts_take(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each part that is read take this long."""
    ticks = itertools.count()
    monkeypatch.setattr(sockets, "perf_counter", lambda: next(ticks) * 1.01 * seconds)


async def test_a_flood_in_one_read_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read is worked off in parts, and no more is read until it was."""
    parts = 4
    parts_take(SLICE_S / parts, monkeypatch)
    bench = Bench(limits={"max_frames_per_s": 10**6})
    await bench.open()
    per_part = READ_BYTES // len(frame(PING)) + 1
    pings = 20 * parts * per_part
    bench.read(frame(PING) * pings + frame(TEXT, b"last"))
    iterations = 0
    while not bench.attached.messages:
        answered = len(bench.transport.take()) // 2
        assert answered <= parts * per_part
        assert bench.transport.is_paused()
        pings -= answered
        iterations += 1
        await asyncio.sleep(0)
    assert len(bench.transport.take()) // 2 == pings
    assert iterations > 10
    assert not bench.transport.is_paused()
    bench.lose()


async def test_bytes_that_come_while_others_wait_are_read_behind_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A transport may hand over what it had read before it was paused."""
    parts_take(SLICE_S / 4, monkeypatch)
    bench = Bench()
    await bench.open()
    sent = [b"%d" % number for number in range(800)]
    whole = b"".join(frame(TEXT, message) for message in sent)
    bench.read(whole[:-5])
    bench.protocol._unread.share.spent_s = 0.0  # another connection of the address has begun the next slice
    bench.read(whole[-5:])
    for _ in range(100):
        await asyncio.sleep(0)
    assert [message for message, _ in bench.attached.messages] == sent
    assert not bench.transport.is_paused()
    bench.lose()


async def test_a_large_message_is_read_within_one_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts grow, because they take little time."""
    parts_take(sockets.CHEAP_S / 2, monkeypatch)
    bench = Bench()
    await bench.open()
    bench.read(frame(BINARY, bytes(60_000)))
    assert bench.attached.messages == [(bytes(60_000), False)]
    assert not bench.transport.is_paused()
    bench.lose()


async def test_frames_that_come_before_the_handshake_is_answered_wait() -> None:
    """The response is the first thing that the peer reads."""
    bench = Bench()
    bench.read((HEAD + "\r\n").encode())
    bench.read(frame(PING) + frame(TEXT, b"early"))
    assert bench.transport.take() == b""
    assert bench.transport.is_paused()
    await bench.settle()
    response, _, frames = bench.transport.take().partition(b"\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 101")
    assert frames == b"\x8a\x00"
    assert bench.attached.messages == [(b"early", True)]
    assert not bench.transport.is_paused()
    bench.lose()


async def test_a_message_after_our_close_frame_is_dropped() -> None:
    """The peer's close frame ends the connection; no code is sent twice."""
    bench = Bench()
    await bench.open()
    wire = wire_of(bench)
    wire.write([b"last"])
    wire.close(FLOODED)
    assert bench.transport.take() == b"\x81\x04last" + close_frame(FLOODED.number, FLOODED.reason)
    wire.write([b"too late"])
    wire.close(FLOODED)
    bench.read(frame(TEXT, b"dropped"))
    assert bench.attached.messages == []
    assert not bench.transport.is_closing()
    bench.read(frame(CLOSE, b"\x03\xe8"))
    assert bench.transport.take() == b""
    assert bench.transport.is_closing()
    bench.lose()


@pytest.mark.virtual_time
async def test_a_peer_that_does_not_answer_a_close_frame_is_aborted() -> None:
    """In a bounded time."""
    bench = Bench()
    await bench.open()
    wire_of(bench).close(FLOODED)
    await asyncio.sleep(CLOSE_S - 0.1)
    assert not bench.transport.is_aborted()
    await asyncio.sleep(0.2)
    assert bench.transport.is_aborted()
    bench.lose()


@pytest.mark.virtual_time
@pytest.mark.parametrize("end", ["close frame", "end of file", "violation", "shutdown"])
async def test_a_transport_that_cannot_send_what_it_holds_is_aborted(end: str) -> None:
    """A peer that reads nothing keeps no connection alive by its end."""
    bench = Bench()
    await bench.open()
    match end:
        case "close frame":
            bench.read(frame(CLOSE))
        case "end of file":
            assert bench.protocol.eof_received() is None  # type: ignore[func-returns-value]
        case "violation":
            bench.read(frame(3))
        case "shutdown":
            bench.protocol.shutdown()
            assert code_of(bench.transport.take()) == 1012
    assert bench.transport.is_closing()
    assert (bench.attached.hang_ups, bench.attached.losses) == (1, 0)
    await asyncio.sleep(CLOSE_S + 0.1)
    assert bench.transport.is_aborted()
    bench.lose()


async def test_pongs_that_nobody_reads_abort_beyond_their_bound() -> None:
    """Pongs are written past a full buffer, and the buffer is bounded."""
    bench = Bench(limits={"max_pong_bytes": 1000})
    await bench.open()
    bench.protocol.pause_writing()
    bench.transport.buffered = 1000
    bench.read(frame(PING))
    assert not bench.transport.is_aborted()
    bench.transport.buffered = 1001
    bench.read(frame(PING))
    assert bench.transport.is_aborted()
    bench.lose()


async def test_the_wire_is_writable_while_the_buffer_is_below_its_mark() -> None:
    """The connection goes on when the buffer has drained."""
    bench = Bench()
    await bench.open()
    wire = wire_of(bench)
    seen = [wire.writable]
    bench.protocol.pause_writing()
    seen.append(wire.writable)
    bench.protocol.resume_writing()
    assert [*seen, wire.writable] == [True, False, True]
    assert bench.attached.resumptions == 1
    bench.lose()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000 + b"\r\n\r\n", b"431"),
        (b"nonsense\r\n\r\n", None),
    ],
)
async def test_a_request_that_is_no_handshake_is_refused(head: bytes, status: bytes | None) -> None:
    """With the HTTP status for it, and the connection is closed; the application does not run.

    Before version 17, websockets closes the connection without a status if it cannot parse the request.
    """
    if not ANSWERS_ALL and status not in (b"426", b"400"):
        status = None
    ran = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ran
        ran = True

    bench = Bench(app)
    bench.read(head)
    await bench.settle()
    answer = bench.transport.take()
    assert answer.split(b" ")[1] == status if status else answer == b""
    assert bench.transport.is_closing()
    assert not ran
    bench.lose()


async def test_an_attached_connection_holds_nothing_of_its_handshake() -> None:
    """The scope is free as soon as the application has returned, and no task is left."""
    scopes: list[ref[Marker]] = []

    class Marker:
        """Object in the scope."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["marker"] = Marker()
        scopes.append(ref(scope["marker"]))
        await receive()
        await send({"type": "websocket.accept"})
        scope["extensions"][EXTENSION].attach(bench.attached)

    bench = Bench(app)
    gc.disable()
    try:
        await bench.open()
        assert [scope() for scope in scopes] == [None]
    finally:
        gc.enable()
    assert bench.state.tasks == set()
    bench.lose()


async def test_attaching_to_a_connection_that_was_lost_reports_the_loss() -> None:
    """The peer left while the application was between its handshake and the attachment."""
    bench: Bench

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0)
        bench.lose()
        scope["extensions"][EXTENSION].attach(bench.attached)

    bench = Bench(app)
    await bench.open()
    assert bench.attached.losses == 1


async def test_messages_that_the_application_left_are_handed_to_the_connection() -> None:
    """They were read before it attached."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        bench.read(frame(TEXT, b"one") + frame(BINARY, b"two"))
        scope["extensions"][EXTENSION].attach(bench.attached)

    bench = Bench(app)
    await bench.open()
    assert bench.attached.messages == [(b"one", True), (b"two", False)]
    bench.lose()
