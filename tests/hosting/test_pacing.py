"""Time slices of agents, and writes of many sessions in one millisecond."""

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
from bargein_server.hosting.pacing import FEW, LATE_S, ROUND_S, SLICE_S, FlushScheduler, TimeSlicer
from bargein_server.transport.connection import Connection
from bargein_server.transport.websocket_protocol import BargeinProtocol
from bargein_server.transport.wires import TransportWire
from memory_client import Line, serve


async def test_the_clock_changes_once_the_loop_has_run() -> None:
    """Whoever looks at it again sees that others had their turn meanwhile."""
    time_slicer = TimeSlicer(asyncio.get_running_loop())
    seen = time_slicer.clock()
    assert time_slicer.clock() == seen
    await asyncio.sleep(0.002)
    assert time_slicer.clock() != seen


async def test_many_turns_share_one_look() -> None:
    """At most one callback for each iteration of the loop, whatever the number of turns."""
    time_slicer = TimeSlicer(cast(asyncio.AbstractEventLoop, Ticking()))
    for _ in range(100):
        time_slicer.clock()
    for _ in range(3):
        await asyncio.sleep(0)
    assert time_slicer.clock() == 1


async def test_nothing_is_watched_when_nobody_asks() -> None:
    """An idle server's loop does not spin, also after it was busy."""
    loop = Ticking()
    time_slicer = TimeSlicer(cast(asyncio.AbstractEventLoop, loop))
    await time_slicer.yield_to_loop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert loop.calls == 2


class Ticking:
    """The running loop, with a clock that goes on during an iteration as that of asyncio does."""

    def __init__(self) -> None:
        self._now = count()
        self.calls = 0

    def time(self) -> float:
        return next(self._now)

    def call_soon(self, act: Callable[[], object]) -> None:
        self.calls += 1
        asyncio.get_running_loop().call_soon(act)


async def test_breathing_lets_the_loop_run() -> None:
    """What was ready before runs before the breath is over."""
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "other")
    await TimeSlicer(asyncio.get_running_loop()).yield_to_loop()
    assert ran == ["other"]


@pytest.mark.parametrize(
    ("busy", "slice_s"),
    [(0, SLICE_S), (1, SLICE_S), (25, SLICE_S), (50, ROUND_S / 50), (1000, ROUND_S / 1000)],
)
async def test_the_more_turns_are_busy_the_shorter_is_the_slice_of_each(busy: int, slice_s: float) -> None:
    """All of them together delay a frame by about five milliseconds; a quiet round gives the time back."""
    time_slicer = TimeSlicer(asyncio.get_running_loop())
    breaths = [asyncio.ensure_future(time_slicer.yield_to_loop()) for _ in range(busy)]
    await asyncio.sleep(0)  # each has begun to breathe
    await asyncio.sleep(0)
    assert time_slicer.slice_s == pytest.approx(slice_s)
    for breath in breaths:
        await breath
    await asyncio.sleep(0)
    assert time_slicer.slice_s == SLICE_S


async def test_an_agent_that_never_suspends_lets_the_loop_run() -> None:
    """Others have their turn while it speaks, many times (contract 12)."""
    rounds = 0
    speaking = True

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        nonlocal speaking
        for _ in range(200_000):  # hundreds of slices of any processor
            if rounds > 50:
                break
            yield "x"
        speaking = False

    line = Line(serve(agent))
    line.ask()
    while speaking:
        await asyncio.sleep(0)
        rounds += 1
    assert rounds > 50


class StandingLoop:
    """The part of a loop that the scheduler uses; like uvloop's, its clock stands still in an iteration."""

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


class Writer:
    """A session of which the text is a few letters (`pacing.Deferred`)."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._waiting = ""
        self.broken = False

    def say(self, letter: str) -> None:
        """Write a letter, or let it wait, as a session's host does."""
        if self._waiting or self._office.scheduler.defers(self, self._office.loop.now):
            self._waiting += letter
        else:
            self._office.written.append(letter)

    def write_deferred(self) -> bool:
        if self.broken:
            raise OSError("no socket")
        text, self._waiting = self._waiting, ""
        if text:
            self._office.written.append(text)
        return bool(text)


class Office:
    """Sessions that share a scheduler.

    Attributes:
        written: What all of them wrote, in order.
    """

    def __init__(self, writers: int) -> None:
        self.loop = StandingLoop()
        self.written: list[str] = []
        self.scheduler = FlushScheduler(cast(asyncio.AbstractEventLoop, self.loop))
        self.writers = [Writer(self) for _ in range(writers)]

    def say(self, *letters: str) -> None:
        """Let each session write a letter."""
        for writer, letter in zip(self.writers, letters, strict=True):
            writer.say(letter)


def test_the_first_of_a_millisecond_is_written_at_once_and_the_others_a_few_at_a_time() -> None:
    """In the iterations that follow, in order."""
    letters = [chr(ord("a") + n) for n in range(2 + 2 * FEW)]
    office = Office(len(letters))
    office.say(*letters)
    for written in (1, 1 + FEW, 1 + 2 * FEW, 2 + 2 * FEW):
        assert office.written == letters[:written]
        assert office.loop.iterate() is (written < len(letters))


def test_in_the_next_millisecond_one_is_written_at_once_again() -> None:
    """A token that trickles alone is never deferred."""
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
    office.writers[0].say("d")
    while office.loop.iterate():
        pass
    assert office.written == ["a", "b", "c", "d"]


def test_one_that_follows_a_late_write_of_its_iteration_waits() -> None:
    """The late write was this iteration's."""
    office = Office(2)
    office.say("a", "b")
    office.loop.now += 1e-3
    office.loop.iterate()
    office.writers[0].say("c")
    assert office.written == ["a", "b"]
    office.loop.iterate()
    assert office.written == ["a", "b", "c"]


def test_what_waits_for_too_long_is_written_all_at_once() -> None:
    """Where an iteration takes milliseconds, one write in each would be too few."""
    letters = [chr(ord("a") + n) for n in range(2 + 2 * FEW)]
    office = Office(len(letters))
    office.say(*letters)
    office.loop.now += LATE_S
    office.loop.iterate()
    assert office.written == letters


def test_the_wait_is_counted_from_its_own_beginning() -> None:
    """Those who waited before are gone; the next wait is as long as any."""
    office = Office(2 + FEW)
    for _ in range(2):
        office.say(*"abcdef"[: 2 + FEW])
        assert len(office.written) == 1
        office.loop.now += LATE_S - 1e-3
        office.loop.iterate()
        assert len(office.written) == 1 + FEW
        office.loop.now += 1e-3
        office.loop.iterate()
        assert len(office.written) == 2 + FEW
        office.written.clear()
        office.loop.now += 1.0


def test_a_session_whose_text_is_gone_takes_no_iteration_away_from_others() -> None:
    """It was purged, or went into the session's queue."""
    office = Office(2 + FEW)
    office.say(*"abcdef"[: 2 + FEW])
    office.writers[1].write_deferred()
    office.loop.iterate()
    assert office.written == list("abcdef"[: 2 + FEW])


def test_text_that_joins_waiting_text_is_written_with_it() -> None:
    """In one write, and it does not wait any longer for that."""
    office = Office(2)
    office.say("a", "b")
    office.writers[1].say("c")
    office.loop.iterate()
    assert office.written == ["a", "bc"]


def test_a_socket_that_fails_does_not_silence_the_others() -> None:
    """The fault is the loop's to report; those behind it write."""
    office = Office(4)
    office.say("a", "b", "c", "d")
    office.writers[1].broken = True
    with pytest.raises(OSError, match="no socket"):
        office.loop.iterate()
    while office.loop.iterate():
        pass
    assert office.written == ["a", "c", "d"]


class Recorder:
    """The transport and the protocol of a wire.

    Attributes:
        writes: What all of them wrote, in order.
        closing: Whether the transport closes.
        taken: How often the protocol was asked to count what is in flight.
    """

    def __init__(self, writes: list[bytes], capped: bool = False) -> None:
        self.transport = self
        self.writes = writes
        self.in_flight = object() if capped else None
        self.wire: TransportWire | None = None
        self.closing = False
        self.taken = 0

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def take_output(self) -> bool:
        self.taken += 1
        return True

    def close(self, code: int, reason: str) -> None:
        self.writes.append(b"(close %d)" % code)


def new_wire(recorder: Recorder) -> TransportWire:
    return TransportWire(cast(BargeinProtocol, recorder), True)


def test_nothing_is_written_while_the_socket_closes() -> None:
    """Its loss has not been reported yet."""
    recorder = Recorder([])
    wire = new_wire(recorder)
    recorder.closing = True
    wire.write([b"a"])
    assert recorder.writes == []


def test_nothing_is_written_behind_a_close() -> None:
    """The close itself goes out once."""
    recorder = Recorder([])
    wire = new_wire(recorder)
    wire.close(CLOSED)
    wire.close(CLOSED)
    wire.write([b"a"])
    assert recorder.writes == [b"(close %d)" % CLOSED.number]


def test_frames_that_are_written_together_leave_in_one_write_in_their_order() -> None:
    """An answer and the text behind it."""
    recorder = Recorder([])
    new_wire(recorder).write([b"ab", b"c"])
    assert recorder.writes == [b"\x81\x02ab\x81\x01c"]


@pytest.mark.parametrize("capped", [False, True])
def test_a_capped_line_counts_every_write(capped: bool) -> None:
    """What the socket has is in flight; nothing passes its cap by."""
    recorder = Recorder([], capped)
    wire = new_wire(recorder)
    before = recorder.taken
    wire.write([b"a"])
    wire.write([b"b"])
    assert recorder.taken - before == (2 if capped else 0)


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

        served = serve(agent, max_connections_per_address=sessions)
        connections = []
        for _ in range(sessions):
            wire = new_wire(Recorder(writes))
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
            live.flush()
        await asyncio.sleep(0)

    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
    # What had not been written is purged (contract 2).
    assert sum(b'"second"' in write for write in writes) == sessions - 1
    ended = next(n for n, write in enumerate(writes) if b'"turn.ended"' in write)
    assert b'"second"' not in writes[ended]
    assert b'"text":"first"' in writes[ended]  # what was heard
    assert ended <= before
