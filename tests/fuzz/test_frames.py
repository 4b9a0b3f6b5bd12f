"""WebSocket frames, mutated: the same messages and the same answer, however the bytes are cut."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

import fuzz_seeds
from bargein_server.transport.websocket_protocol import EXTENSION, BargeinProtocol
from bargein_server.transport.wires import TransportWire
from fake_transport import Attached, FakeTransport
from raw_websocket import HEAD, frame
from seeded_fuzzing import Target, day_and_night

MAX_BYTES, MAX_PIECES = 2000, 6
WORDS = (
    b"\x81\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8", b"\x89\x80\0\0\0\0", b"\x01\x81\0\0\0\0a",
    b"\x80\x80\0\0\0\0", b"\0\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x82\xfe\x07\xd1\0\0\0\0",
    b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", b"\xc1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x81\0",
    b"\xff" * 14, b"\xe2\x82", b"\x89\x80\0\0\0\0" * 300,
)  # fmt: skip
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
SEEDS = (
    frame(TEXT, b"one") + frame(BINARY, b"\xff" * 300) + frame(CLOSE, b"\x03\xe8bye"),
    frame(TEXT, b"\xe2", final=False)
    + frame(PING, b"p")
    + frame(CONT, b"\x82\xac")
    + frame(TEXT, "€".encode()),
    frame(BINARY, b"x" * 1990, final=False) + frame(CONT, b"y" * 10) + frame(PONG) + frame(TEXT),
    frame(TEXT, b"x", final=False) + frame(CONT, final=False) * 4 + frame(CONT, b"z") + frame(CLOSE),
)


@dataclass
class Result:
    """Effect of a peer's bytes; pongs may stand anywhere between the answers."""

    messages: list[tuple[bytes, bool]]
    answers: list[tuple[int, bytes]]
    pongs: list[bytes]
    closed: bool


class Peer:
    """Peers of protocols that hand messages to a recorder, which answers each."""

    def __init__(self) -> None:
        self._config = Config(
            self._attach, ws_max_size=MAX_BYTES, ws_per_message_deflate=False, ws_ping_interval=None,
            log_config=None, interface="asgi3", proxy_headers=False,
        )  # fmt: skip
        self._config.load()
        self._kind = type("Limited", (BargeinProtocol,), {"__slots__": (), "max_pieces": MAX_PIECES})
        self._attached = Attached()

    async def _attach(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        scope["extensions"][EXTENSION].attach(self._attached)

    async def send(self, pieces: list[bytes]) -> Result:
        """Send pieces on a new connection."""
        protocol: BargeinProtocol = self._kind(self._config, ServerState(), {})
        transport = FakeTransport()
        attached = self._attached = Attached()
        protocol.connection_made(transport)
        protocol.data_received(f"{HEAD}\r\n".encode())
        await settle()
        assert transport.take().startswith(b"HTTP/1.1 101")
        wire = TransportWire(protocol, True)
        attached.answer = lambda message: wire.write([b"%d" % len(message)])
        for piece in pieces:
            while transport.is_paused() and not transport.is_closing():
                await asyncio.sleep(0)
            if not transport.is_closing():
                protocol.data_received(piece)
        await settle()
        assert protocol._unread.data is None
        written, closed = frames_of(transport.take()), transport.is_closing()
        protocol.connection_lost(None)
        assert attached.losses == 1
        # A ping behind a violation in one read may be answered.
        pongs = [payload for sent, payload in written if sent == PONG and not closed]
        # Of two violations in one read either may be the reason.
        answers = [(sent, b"" if sent == CLOSE else payload) for sent, payload in written if sent != PONG]
        return Result(attached.messages, answers, pongs, closed)


async def settle() -> None:
    """Let the protocol and its application work off what came."""
    for _ in range(6):
        await asyncio.sleep(0)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Return opcodes and payloads of a server's frames, each whole and not masked."""
    found, at = [], 0
    while at < len(data):
        size, length = data[at + 1], 2
        if size == 126:
            size, length = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        assert data[at] & 0xF0 == 0x80
        assert size < 126 or length == 4
        found.append((data[at] & 0x0F, data[at + length : at + length + size]))
        at += length + size
    assert at == len(data)
    return found


@day_and_night
async def test_the_cut_changes_nothing(night: bool) -> None:
    """A violation is closed with a close frame, and what came before it is handed over."""
    target = Target("frames", night, seeds=SEEDS, words=WORDS)
    peer, chance = Peer(), Random(1)
    for data in target.inputs(25_000 if night else 1500):
        try:
            whole = await peer.send([data] if data else [])
            assert whole == await peer.send(fuzz_seeds.pieces_of(data, chance))
            assert {opcode for opcode, _ in whole.answers} <= {TEXT, CLOSE}
            assert whole.closed is (CLOSE in {opcode for opcode, _ in whole.answers[-1:]})
            assert CLOSE not in {opcode for opcode, _ in whole.answers[:-1]}
            assert all(len(message) <= MAX_BYTES for message, _ in whole.messages)
        except Exception as error:
            target.fail(data, error)
