"""A server that dies at one call of its store, and the next one on the same data.

One client talks by a script that follows from a seed: it asks, interrupts, rewinds, leaves and returns. The
store ends the server at the call with a given number, before that takes effect or before it is answered.
Frames on their way are lost. Another server takes the place, and the client, which noticed only that its
line is gone, resumes with everything that it has no answer to, as real clients do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import bargein_protocol as bp
from bargein_protocol import JSON
from bargein_server.agent import Output, Turn
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.settings import Settings
from bargein_server.stores.interface import Outcome, StoreError, Write
from bargein_server.transport.connection import Connection
from memory_store import MemoryStore

from .loop import SimulatedLoop
from .seams import seeded

BOUND_S = 60.0
"""Everything that the client waits for comes within this time, in virtual seconds."""


class Broken(Exception):
    """Something that the contract forbids has happened."""


def expect(condition: object, rule: str) -> None:
    """Raise unless a rule holds."""
    if not condition:
        raise Broken(rule)


class CrashingStore(MemoryStore):
    """Store of one server, which it ends at one call.

    Args:
        world: The run.
        process: The server.
    """

    def __init__(self, world: CrashWorld, process: Process) -> None:
        super().__init__(world.data, self._begin, self._end)
        self._world = world
        self._process = process

    def _begin(self, call: str) -> None:
        world = self._world
        if self._process.dead:
            raise StoreError("unavailable", "its server is dead")
        world.calls += 1
        if world.calls == world.crash_at and not world.after:
            world.kill(self._process)
            raise StoreError("unavailable", "its server is dead")

    def _end(self, call: str) -> None:
        world = self._world
        if world.calls == world.crash_at and world.after:
            world.kill(self._process)
            raise StoreError("unavailable", "its server is dead")

    async def write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write a batch, which takes a while."""
        await asyncio.sleep(self._world.chance.choice([0.0, 0.001, 0.02]))
        return await super().write(writes)


class Process:
    """One server.

    Attributes:
        dead: Whether it was killed.
        wires: Its wires.
    """

    def __init__(self, world: CrashWorld) -> None:
        self.dead = False
        self.wires: list[CrashWire] = []
        self.sessions = SessionRegistry(
            self._answer, Settings(max_client_share=1.0, drain_s=0.0), store=CrashingStore(world, self)
        )
        self._world = world

    async def _answer(self, turn: Turn) -> AsyncIterator[Output]:
        """Run the agent; in a dead server nothing takes effect."""
        async for output in self._world.agent(turn, self):
            yield output

    async def bury(self) -> None:
        """End the tasks of a killed server; nobody sees what they do."""
        for host in self.sessions:
            host.act(host.core.shut_down)
        await self.sessions.shut_down()


class CrashWire:
    """Line from a server to the client, on which frames take a while."""

    writable = True

    def __init__(self, world: CrashWorld, process: Process, client: CrashClient) -> None:
        self._world = world
        self._process = process
        self._client = client
        self._on_the_way: list[bytes] = []
        process.wires.append(self)

    def write(self, frames: Sequence[bytes]) -> None:
        """Send frames; those of a dead server go nowhere."""
        if not self._process.dead:
            self._on_the_way += frames
            delay_s = self._world.chance.choice([0.0, 0.0, 0.005])
            asyncio.get_running_loop().call_later(delay_s, self._deliver)

    def _deliver(self) -> None:
        frames, self._on_the_way = self._on_the_way, []
        for frame in frames:
            self._client.receive(self, JSON.decode_server(frame))

    def lose(self) -> None:
        """Lose what is on its way, and the line."""
        self._on_the_way = []
        self._client.lost(self)

    def close(self, code: bp.Code) -> None:
        """Close the line."""
        if not self._process.dead:
            asyncio.get_running_loop().call_later(0.005, self._client.lost, self)

    def abort(self) -> None:
        """Close the line."""
        self.close(bp.errors.ABNORMAL)


class CrashClient:
    """The client, with what it was told.

    Attributes:
        accepted: The turn of each input that was answered.
        ends: The end that it saw of each turn.
        texts: The text that it has of each turn.
        dropped: Turns that a rewind has dropped.
    """

    def __init__(self, world: CrashWorld) -> None:
        self._world = world
        self.opened: bp.SessionOpened | None = None
        self.seq = 0
        self.accepted: dict[str, bp.TurnId] = {}
        self.ends: dict[bp.TurnId, tuple[str, str]] = {}
        self.texts: dict[bp.TurnId, str] = {}
        self.dropped: set[bp.TurnId] = set()
        self.unanswered: dict[str, bp.InputText | bp.Interrupt | bp.SessionRewind] = {}
        self.changed = asyncio.Event()
        self._wire: CrashWire | None = None
        self._connection: Connection | None = None
        self._live = False
        self._ids = 0

    # --- the line ----------------------------------------------------------------------------------

    async def come(self) -> None:
        """Connect, until a server takes the line."""
        while not self._live:
            process = await self._world.process_up()
            wire = self._wire = CrashWire(self._world, process, self)
            connection = self._connection = Connection(wire, JSON, process.sessions)
            resume = None
            if self.opened is not None:
                cursor = bp.Cursor(epoch=self.opened.epoch, seq=bp.Seq(self.seq))
                resume = bp.Resume(session_id=self.opened.session_id, token=self.opened.token, cursor=cursor)
            self._send(bp.SessionOpen(resume=resume, pending=list(self.unanswered.values())))
            with suppress(TimeoutError):
                async with asyncio.timeout(BOUND_S):
                    while not self._is_live() and self._is_on(wire):
                        self.changed.clear()
                        await self.changed.wait()
            expect(self._is_live() or not self._is_on(wire), "no server answered")
            if not self._is_live():
                connection.disconnected()
                await asyncio.sleep(0.05)

    def _is_live(self) -> bool:
        return self._live

    def _is_on(self, wire: CrashWire) -> bool:
        return self._wire is wire

    def leave(self) -> None:
        """Lose the line for no reason."""
        if self._connection is not None:
            connection, wire = self._connection, self._wire
            assert wire is not None
            self.lost(wire)
            if not wire._process.dead:
                connection.disconnected()

    def lost(self, wire: CrashWire) -> None:
        """The line is gone."""
        if self._wire is wire:
            self._wire = self._connection = None
            self._live = False
            self.changed.set()

    def _send(self, event: bp.ClientEvent) -> None:
        if self._connection is not None and self._wire is not None and not self._wire._process.dead:
            self._connection.receive(JSON.encode(event), True)

    # --- what it says ----------------------------------------------------------------------------

    def ask(self, text: str, on_busy: bp.OnBusy = "interrupt") -> str:
        """Ask something; return the id of the input."""
        self._ids += 1
        event = bp.InputText(id=bp.InputId(f"i{self._ids}"), text=text, on_busy=on_busy)
        self.unanswered[event.id] = event
        self._send(event)
        return event.id

    def interrupt(self, input_id: str) -> None:
        """Interrupt the turn of an input."""
        self._ids += 1
        event = bp.Interrupt(id=bp.InterruptId(f"x{self._ids}"), input_id=bp.InputId(input_id))
        self.unanswered[event.id] = event
        self._send(event)

    async def rewind(self, turn_id: bp.TurnId) -> None:
        """Drop a turn and all later ones; wait for the answer."""
        self._ids += 1
        event = bp.SessionRewind(id=bp.RewindId(f"r{self._ids}"), turn_id=turn_id)
        self.unanswered[event.id] = event
        self._send(event)
        async with asyncio.timeout(BOUND_S):
            while event.id in self.unanswered:
                if not self._live:
                    await self.come()
                    continue
                self.changed.clear()
                await self.changed.wait()
        expect(turn_id in self.dropped, f"{turn_id} was not dropped")

    async def until_ended(self, input_id: str) -> bp.TurnId:
        """Wait until an input's turn has ended, over as many lines as it takes."""
        async with asyncio.timeout(BOUND_S):
            while (turn := self.accepted.get(input_id)) is None or turn not in self.ends:
                if not self._live:
                    await self.come()
                    continue
                self.changed.clear()
                await self.changed.wait()
        return turn

    # --- what it hears -----------------------------------------------------------------------------

    def receive(self, wire: CrashWire, event: bp.ServerEvent | bp.UnknownEvent) -> None:
        """Take an event and hold it against the contract."""
        if wire is not self._wire:
            return
        try:
            self._take(event)
        except Broken as broken:
            self._world.broken = self._world.broken or str(broken)
        self.changed.set()

    def _take(self, event: bp.ServerEvent | bp.UnknownEvent) -> None:
        if isinstance(event, bp.SessionOpened):
            self._take_opened(event)
        elif isinstance(event, bp.Snapshot):
            self._take_snapshot(event)
        elif isinstance(event, bp.InterruptResult):
            self.unanswered.pop(event.interrupt_id, None)
        elif isinstance(event, bp.SessionRewound):
            self.unanswered.pop(event.rewind_id, None)
            self.dropped |= set(event.turns)
            if event.seq:
                expect(event.seq == self.seq + 1, f"number {event.seq} after {self.seq}")
                self.seq = event.seq
        elif isinstance(event, bp.ErrorEvent):
            expect(False, f"an error: {event}")
        if isinstance(event, (bp.InputAccepted, bp.InputQueued)):
            before = self.accepted.setdefault(event.input_id, event.turn_id)
            expect(before == event.turn_id, f"{event.input_id} got {before} and {event.turn_id}")
            self.unanswered.pop(event.input_id, None)
        if isinstance(event, bp.TurnEvent) and event.seq:
            expect(event.seq == self.seq + 1, f"number {event.seq} after {self.seq}")
            self.seq = event.seq
            expect(event.turn_id not in self.ends, f"{event} after its end")
            if isinstance(event, bp.TextDelta):
                self.texts[event.turn_id] = self.texts.get(event.turn_id, "") + event.text
            elif isinstance(event, bp.TurnEnded):
                self.ends[event.turn_id] = (event.status, event.reason)

    def _take_opened(self, event: bp.SessionOpened) -> None:
        if self.opened is not None:
            expect(event.resumed, f"the resume was refused: {event.reason}")
            expect(event.session_id == self.opened.session_id, "another session")
        self.opened = event
        self._live = True

    def _take_snapshot(self, event: bp.Snapshot) -> None:
        expect(event.through >= self.seq, "a snapshot went back")
        self.seq = event.through
        for state in event.turns:
            if state.input_id is not None:
                before = self.accepted.setdefault(state.input_id, state.turn_id)
                expect(before == state.turn_id, f"{state.input_id} got {before} and {state.turn_id}")
                self.unanswered.pop(state.input_id, None)
            if state.dropped:
                self.dropped.add(state.turn_id)
            expect(state.turn_id not in self.dropped or bool(state.dropped), f"{state.turn_id} came back")
            told = self.ends.get(state.turn_id)
            if state.status is not None:
                end = (state.status, state.reason or "")
                own = told == ("interrupted", "client") and end == ("failed", "node_lost")
                expect(told in (None, end) or own, f"{state.turn_id} ended with {told}, and then with {end}")
                self.ends.setdefault(state.turn_id, end)
            else:
                expect(told is None, f"{state.turn_id} ended with {told}, and runs again")
            self.texts[state.turn_id] = state.lanes[""].text if "" in state.lanes else ""


class CrashWorld:
    """See the module.

    Args:
        seed: The script follows from it.
        crash_at: Number of the store's call at which the server dies; 0 for never.
        after: Whether the call has taken effect by then.

    Attributes:
        calls: Number of calls of the store so far.
        broken: The first rule that was broken.
        effects: Tools that have taken effect, by the text of the input.
    """

    def __init__(self, seed: int, crash_at: int, after: bool) -> None:
        self.chance = random.Random(f"{seed} {crash_at} {after}")
        self._script = random.Random(seed)
        self.crash_at = crash_at
        self.after = after
        self.calls = 0
        self.broken: str | None = None
        self.effects: list[str] = []
        self.data: dict[Any, Any] = {}
        self._dead: list[Process] = []
        self._process: Process | None = None
        self._killed = asyncio.Event()

    async def agent(self, turn: Turn, process: Process) -> AsyncIterator[Output]:
        """Answer by what the input says."""
        if turn.text == "history":
            yield json.dumps(turn.history.messages()[:-1])
        elif turn.text.startswith("tool"):
            call_id = turn.tools.claim()
            yield bp.ToolCall(call_id=call_id, name="pay")
            await turn.tools.begin(call_id, "pay", {"for": turn.text})
            if process.dead:
                await asyncio.Event().wait()
            self.effects.append(turn.text)
            await asyncio.sleep(0.01)
            turn.tools.settle(bp.ToolResult(call_id=call_id, status="completed", output="paid"))
            yield f"done with {turn.text}"
        else:
            for number in range(20 if turn.text.startswith("long") else 2):
                yield f"{turn.text} {number}, "
                await asyncio.sleep(0.01)

    def kill(self, process: Process) -> None:
        """End a server in this very step."""
        process.dead = True
        self._dead.append(process)
        self._process = None
        for wire in process.wires:
            wire.lose()

    async def process_up(self) -> Process:
        """Return the server; another one when it was killed."""
        await asyncio.sleep(0.01)
        if self._process is None:
            self._process = Process(self)
        return self._process

    async def run(self) -> None:
        """Let the client talk, and see that nothing was lost."""
        client, script = CrashClient(self), self._script
        await client.come()
        asked: list[str] = []
        for number in range(script.randint(2, 6)):
            kind = script.choice(["short", "long", "long", "tool"])
            asked.append(client.ask(f"{kind} {number}", script.choice(["interrupt", "queue"])))
            await asyncio.sleep(script.choice([0.0, 0.02, 0.15, 0.5]))
            if script.random() < 0.3:
                client.interrupt(asked[-1])
            if script.random() < 0.2:
                client.leave()
                await asyncio.sleep(script.choice([0.0, 0.1]))
            await client.come()
            known = [turn for each in asked if (turn := client.accepted.get(each)) is not None]
            if known and script.random() < 0.3 and known[-1] not in client.dropped:
                await client.rewind(known[-1])
        for input_id in asked:
            await client.until_ended(input_id)
        dropped = {number for number, each in enumerate(asked) if client.accepted[each] in client.dropped}
        await self._check(client, dropped)
        for process in [*self._dead, *([self._process] if self._process is not None else [])]:
            await process.bury()

    async def _check(self, client: CrashClient, dropped: set[int]) -> None:
        """What was told is in the history, and every resend gets its first answer."""
        turn = await client.until_ended(client.ask("history", "queue"))
        while client.ends[turn][0] != "completed":  # the server died in it
            turn = await client.until_ended(client.ask("history", "queue"))
        history = json.loads(client.texts[turn])
        said = "\n".join(str(message["content"]) for message in history)
        for turn_id, (status, _) in client.ends.items():
            text = client.texts.get(turn_id, "")
            if turn_id in client.dropped:
                expect(not text or text not in said, f"{turn_id} was dropped, and is there: {text}")
            elif status == "completed" and turn_id != turn and not text.startswith("["):
                expect(text in said, f"{turn_id} was completed, and its answer is lost: {text}")
        calls = [json.dumps(message.get("tool_calls", "")) for message in history]
        for effect in self.effects:
            count = sum(effect in call for call in calls)
            gone = not count and int(effect.split()[1]) in dropped
            expect(
                count == 1 or gone, f"the tool of {effect!r} took effect and is {count} times in the history"
            )
        expect(len(self.effects) == len(set(self.effects)), "a tool ran twice")


def crash(seed: int, crash_at: int, after: bool) -> tuple[int, str | None]:
    """Run a seed with a crash; return the number of calls of the store, and what is wrong."""
    loop = SimulatedLoop(random.Random(f"{seed} {crash_at} {after} loop"))
    logging.disable(logging.CRITICAL)
    try:
        with seeded(random.Random(f"{seed} server"), loop.look_at_clock):
            asyncio.set_event_loop(loop)
            world = CrashWorld(seed, crash_at, after)
            try:
                loop.run_until_complete(world.run())
            except (Broken, TimeoutError) as broken:
                return world.calls, str(broken) or "nothing happened for too long"
            return world.calls, world.broken
    finally:
        logging.disable(logging.NOTSET)
        asyncio.set_event_loop(None)
        loop.close()


def crash_at_every_call(seed: int) -> tuple[int, str | None]:
    """Run a seed with a crash at each call of its store; return the number of runs, and the first fault."""
    calls, fault = crash(seed, 0, after=False)
    if fault is not None:
        return 1, f"without a crash: {fault}"
    for crash_at in range(1, calls + 1):
        for after in (False, True):
            _, fault = crash(seed, crash_at, after)
            if fault is not None:
                return 2 * crash_at, f"crash({seed}, {crash_at}, after={after}): {fault}"
    return 1 + 2 * calls, None
