"""Writes of many sessions in one millisecond: what waits, for how long, and behind what."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import cast

import pytest
import uvloop

from bargein_protocol import JSON, InputId, InputText, Interrupt, InterruptId, SessionOpen
from bargein_protocol.errors import CLOSED
from bargein_server import Output, Turn
from bargein_server.hosting.flush_scheduler import FEW, LATE_S, FlushScheduler
from bargein_server.transport.connection import Connection
from bargein_server.transport.transport_wire import TransportWire
from bargein_server.transport.websocket_protocol import BargeinProtocol
from memory_client import serve


class StandingLoop:
    """The part of a loop that an outbox uses, with uvloop's clock: it stands still during an iteration."""

    def __init__(self) -> None:
        self.now = 5.0
        self._ready: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._ready.append(callback)

    def iterate(self) -> bool:
        """Run an iteration; returns whether there was anything to do."""
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()
        return bool(ready)


class Recorder:
    """The transport and the protocol of a wire.

    Attributes:
        writes: What all of them wrote, in order.
    """

    def __init__(self, writes: list[bytes], capped: bool = False) -> None:
        self.transport = self
        self.writes = writes
        self.in_flight = object() if capped else None
        self.wire: TransportWire | None = None
        self.closing = False

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self, code: int, reason: str) -> None:
        if not self.closing:
            self.write(b"(close)")

    def take_output(self) -> bool:
        return True


class Office:
    """Wires that share an outbox."""

    def __init__(self, wires: int = 0, capped: bool = False) -> None:
        self.loop = StandingLoop()
        self.writes: list[bytes] = []
        self.outbox = FlushScheduler(cast(asyncio.AbstractEventLoop, self.loop))
        self.recorders = [Recorder(self.writes, capped) for _ in range(wires)]
        self.wires = [
            TransportWire(cast(BargeinProtocol, recorder), True, self.outbox) for recorder in self.recorders
        ]

    def say(self, *letters: str) -> None:
        """Let each wire write a letter."""
        for wire, letter in zip(self.wires, letters, strict=True):
            wire.write_soon(letter.encode(), self.loop.now)

    @property
    def written(self) -> list[str]:
        """The writes, without the headers of the frames."""
        said = "abcdefghij(close)"
        return ["".join(chr(byte) for byte in data if chr(byte) in said) for data in self.writes]


def test_the_first_of_a_millisecond_is_written_at_once_and_the_others_a_few_at_a_time() -> None:
    """In the iterations that follow, in order."""
    letters = [chr(ord("a") + n) for n in range(2 + 2 * FEW)]
    office = Office(len(letters))
    office.say(*letters)
    for written in (1, 1 + FEW, 1 + 2 * FEW, 2 + 2 * FEW):
        assert office.written == letters[:written]
        assert office.loop.iterate() is (written < len(letters))


def test_in_the_next_millisecond_one_is_written_at_once_again() -> None:
    """A token that trickles alone is never put off."""
    office = Office(1)
    for _ in range(3):
        office.say("a")
        office.loop.now += 1e-3
    assert office.written == ["a", "a", "a"]
    assert not office.loop.iterate()


def test_nobody_overtakes_those_who_wait() -> None:
    """A new millisecond has begun, and there are some from the one before."""
    office = Office(3)
    office.say("a", "b", "c")
    office.loop.now += 1e-3
    office.wires[0].write_soon(b"d", office.loop.now)
    while office.loop.iterate():
        pass
    assert office.written == ["a", "b", "c", "d"]


def test_one_that_follows_a_late_write_of_its_iteration_waits() -> None:
    """The late write was this iteration's."""
    office = Office(2)
    office.say("a", "b")
    office.loop.now += 1e-3
    office.loop.iterate()
    office.wires[0].write_soon(b"c", office.loop.now)
    assert office.written == ["a", "b"]


def test_what_waits_for_too_long_is_written_all_at_once() -> None:
    """Where an iteration takes milliseconds, one write in each would be too few."""
    letters = [chr(ord("a") + n) for n in range(2 + 2 * FEW)]
    office = Office(len(letters))
    office.say(*letters)
    office.loop.now += LATE_S
    office.loop.iterate()
    assert office.written == letters


def test_whatever_is_written_after_it_goes_out_after_it() -> None:
    """An answer, more text, and the close; and in as few writes as can be."""
    office = Office(4)
    office.say("a", "b", "c", "d")
    office.wires[1].write([b"e", b"f"])
    office.wires[2].write_soon(b"g", office.loop.now)
    office.wires[3].close(CLOSED)
    assert office.written == ["a", "bef", "d", "(close)"]
    office.loop.iterate()  # those that have written already take no iteration away from others
    assert office.written[-1] == "cg"
    while office.loop.iterate():
        pass
    assert len(office.writes) == 5


def test_nothing_is_written_when_the_socket_closes_meanwhile() -> None:
    """Nor after our own close."""
    office = Office(3)
    office.say("a", "b", "c")
    office.recorders[1].closing = True
    office.wires[2].close(CLOSED)
    office.wires[2].write_soon(b"d", office.loop.now)
    office.wires[1].write_soon(b"e", office.loop.now)
    while office.loop.iterate():
        pass
    assert office.written == ["a", "c", "(close)"]


def test_the_first_of_a_millisecond_is_not_written_either_when_the_socket_closes() -> None:
    """Its loss has not been told yet."""
    office = Office(1)
    office.recorders[0].closing = True
    office.say("a")
    assert not office.writes


def test_a_socket_that_fails_does_not_silence_the_others() -> None:
    """The fault is the loop's to report; those behind it write."""
    office = Office(4)
    office.say("a", "b", "c", "d")
    office.recorders[1].write = broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no socket"):
        office.loop.iterate()
    while office.loop.iterate():
        pass
    assert office.written == ["a", "c", "d"]


def broken(data: bytes) -> None:
    raise OSError("no socket")


def test_a_capped_line_is_written_to_at_once() -> None:
    """Its cap counts what the socket has: what waited elsewhere would pass it by."""
    office = Office(3, capped=True)
    office.say("a", "b", "c")
    assert office.written == ["a", "b", "c"]


def test_an_interrupt_is_read_between_the_words_of_others() -> None:
    """Twenty agents wake up together when an interrupt arrives: few write before it is answered."""
    sessions, before = 20, 1 + 2 * FEW
    writes: list[bytes] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        go, spoken = asyncio.Event(), count()
        ours, theirs = socket.socketpair()

        async def agent(turn: Turn) -> AsyncIterator[Output]:
            yield "first"
            await go.wait()
            if next(spoken) == 0:
                theirs.send(JSON.encode(Interrupt(id=InterruptId("x"), input_id=InputId("i"))))
            yield "second"
            await asyncio.Event().wait()

        served = serve(agent, connections_per_address=sessions)
        connections = []
        for _ in range(sessions):
            wire = TransportWire(cast(BargeinProtocol, Recorder(writes)), True, served.outbox)
            connection = Connection(wire, JSON, served)
            connection.receive(JSON.encode(SessionOpen()), True)
            connection.receive(JSON.encode(InputText(id=InputId("i"), text="")), True)
            connections.append(connection)
        await asyncio.sleep(0.05)
        loop.add_reader(ours, lambda: connections[-1].receive(ours.recv(4096), True))
        writes.clear()
        go.set()
        await asyncio.sleep(0.05)
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
        assert next(spoken) == sessions
        for live in served:
            live.core.shut_down(loop.time())
            live.changed()
        await asyncio.sleep(0)

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
    # What had not been written is purged (contract 2).
    assert sum(b'"second"' in write for write in writes) == sessions - 1
    ended = next(n for n, write in enumerate(writes) if b'"turn.ended"' in write)
    assert b'"second"' not in writes[ended]
    assert b'"text":"first"' in writes[ended]  # what was heard
    assert ended <= before
