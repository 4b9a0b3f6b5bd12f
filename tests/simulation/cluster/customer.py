"""A client that comes to any node, and checks all that it is told.

- Numbers are contiguous, or a snapshot takes their place; the same number never means two things.
- A turn has one end, and nothing follows it; an input has one turn, an interrupt one answer.
- A resume is not refused, unless the store forgot and the owner was lost, together.
- A snapshot takes back at most what was said in the last moments before the owner was lost.
- What a completed turn has said is in the history of every later one, and so is what tools have done.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, cast

from msgspec import Struct, field

import bargein_protocol as bp
from bargein_protocol import JSON
from bargein_protocol.errors import REPLACED
from bargein_server.core.identity import OVERLAP_S

from .agents import KINDS
from .node import Line

if TYPE_CHECKING:
    from .world import ClusterWorld

SILENCE_S = 2.5
"""Silence after which a client takes its line for lost; heartbeats come each second."""

KEPT_S = 1.0
"""Age of words that no takeover may take back: they were written long before."""

LOST_S = 20.0
"""Time after which a turn of a session at risk counts as lost."""

COME_S = 30.0
"""Time in which a client is resumed while nothing is wrong."""


class Seen(Struct):
    """A turn, as its client has it.

    Args:
        text: Its text.
        said: Times at which text came, with its length then.
        end: Its status and reason.
        reported: Whether the client has reported what its user heard, which the history keeps to.
    """

    text: str = ""
    said: list[tuple[float, int]] = field(default_factory=list)
    end: tuple[str, str] | None = None
    reported: bool = False


class Customer:
    """See the module.

    Attributes:
        events: Numbered events that it has received.
        opened: Its session.
    """

    def __init__(self, world: ClusterWorld, number: int) -> None:
        self.name = f"c{number}"
        self.events = 0
        self.opened: bp.SessionOpened | None = None
        self._world = world
        self._chance = world.chance_of(self.name)
        self._ids = self._lives = 0
        self._line: Line | None = None
        self._heard_at = 0.0
        self._changed = asyncio.Event()
        self._forget()

    def _forget(self) -> None:
        """Begin a session from nothing."""
        self._lives += 1
        self.opened = None
        self._shown_at = inf  # when its token was shown first
        self._live = False
        self._seq = 0
        self._turns: dict[bp.TurnId, Seen] = {}
        self._texts: dict[str, str] = {}
        self._accepted: dict[str, bp.TurnId] = {}
        self._unanswered: dict[str, bp.InputText | bp.Interrupt] = {}
        self._answers: dict[str, str] = {}
        self._refused: set[str] = set()
        self._replaying = False

    # --- what it does ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Use the servers for a while."""
        chance = self._chance
        for _ in range(chance.randint(1, 3)):
            await self.come()
            for _ in range(chance.randint(1, self._world.actions)):
                await self._act()
            if not await self._check_all():
                continue  # the session was lost meanwhile, and that was told
            await self.come()
            if chance.random() < 0.5:
                self._send(bp.SessionClose())
                await asyncio.sleep(0.1)
            self._leave()
            self._forget()

    async def _act(self) -> None:
        chance = self._chance
        action = chance.choice(self._world.mood)
        if action == "ask":
            if len(self._unanswered) < 20:
                self.ask(chance.choice(KINDS), cast("bp.OnBusy", chance.choice(["interrupt", "queue"])))
        elif action == "interrupt" and self._texts:
            self._interrupt(chance.choice(list(self._texts)[-3:]))
        elif action == "leave":
            self._leave()
        elif action == "double":
            self._line = None  # the node is not told; the newest line wins
            self._live = False
        elif action == "repeat" and self._unanswered:
            self._send(chance.choice(list(self._unanswered.values())))
        elif action == "playback" and self._turns:
            turn_id = chance.choice(list(self._turns)[-3:])
            self._turns[turn_id].reported = True
            self._send(bp.Playback(turn_id=turn_id, chars=chance.randint(0, 60)))
        if chance.random() < 0.7:
            await asyncio.sleep(chance.random() ** 2 * self._world.pause_s)
        if chance.random() < 0.8:
            await self.come()

    def ask(self, kind: str, on_busy: bp.OnBusy) -> str:
        """Ask something; return the id of the input."""
        self._ids += 1
        input_id = f"{self.name}.{self._ids}"
        event = bp.InputText(id=bp.InputId(input_id), text=f"{kind} {input_id}", on_busy=on_busy)
        self._texts[input_id] = event.text
        self._unanswered[input_id] = event
        self._send(event)
        return input_id

    def _interrupt(self, input_id: str) -> None:
        self._ids += 1
        event = bp.Interrupt(id=bp.InterruptId(f"{self.name}.x{self._ids}"), input_id=bp.InputId(input_id))
        self._unanswered[event.id] = event
        self._send(event)

    def _send(self, event: bp.ClientEvent) -> None:
        if self._line is not None and self._live:
            self._line.send(event)

    # --- the line ----------------------------------------------------------------------------------

    async def come(self) -> None:
        """Connect, until a node takes the line."""
        world, loop = self._world, self._world.loop
        began = loop.time()
        while not self._live:
            calm_s = loop.time() - max(began, world.calm_since)
            world.expect(calm_s < COME_S, f"{self.name} finds no node for {calm_s:.0f} s")
            node = world.node_for(self._chance)
            if node is None:
                await asyncio.sleep(self._chance.random() * 0.3)
                continue
            line = self._line = Line(world, node, self)
            self._heard_at = loop.time()
            resume = None
            if self.opened is not None:
                self._shown_at = min(self._shown_at, loop.time())
                cursor = bp.Cursor(epoch=self.opened.epoch, seq=bp.Seq(self._seq))
                resume = bp.Resume(session_id=self.opened.session_id, token=self.opened.token, cursor=cursor)
            line.send(bp.SessionOpen(resume=resume, pending=list(self._unanswered.values())))
            with suppress(TimeoutError):
                async with asyncio.timeout(12.0):
                    while not self._is_live() and self._line is line:
                        self._changed.clear()
                        await self._changed.wait()
            if not self._is_live():
                self._leave()
                await asyncio.sleep(self._chance.random() * 0.2)

    def _is_live(self) -> bool:
        return self._live

    def _leave(self) -> None:
        if self._line is not None:
            self._line.leave()
        self._line = None
        self._live = False

    def lost(self, line: Line, code: bp.Code) -> None:
        """The line is gone."""
        if line is self._line:
            self._world.expect(code is not REPLACED, f"{self.name} was replaced by nobody")
            self._line = None
            self._live = False
            self._changed.set()

    async def _until(self, input_id: str) -> Seen | None:
        """Wait until an input's turn has ended, over as many lines as it takes.

        None for a refused one, and when the session is lost.
        """
        loop, life = self._world.loop, self._lives
        began = loop.time()
        while self._lives == life:
            turn_id = self._accepted.get(input_id)
            if input_id in self._refused:
                return None
            if turn_id is not None and (seen := self._turns[turn_id]).end is not None:
                return seen
            calm_s = loop.time() - max(began, self._world.calm_since)
            if calm_s > LOST_S and self._at_risk:
                return None  # two faults came together, and no snapshot has the turn any more
            self._world.expect(calm_s < 60.0, f"{self.name}: {input_id} does not end")
            await self.come()
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._changed.wait()
            if loop.time() - self._heard_at > SILENCE_S:
                self._leave()
        return None

    # --- the end -----------------------------------------------------------------------------------

    async def _check_all(self) -> bool:
        """Wait for every end, and check the history; False for a lost session."""
        life = self._lives
        for input_id in list(self._texts):
            await self._until(input_id)
            if self._lives != life:
                return False
        return await self._check_history(life)

    async def _check_history(self, life: int) -> bool:
        for _ in range(1000):
            seen = await self._until(self.ask("history", "queue"))
            if self._lives != life:
                return False
            if seen is not None and seen.end is not None and seen.end[0] == "completed":
                self._compare(json.loads(seen.text))
                return True
            if seen is None:  # by a node that ends
                self._leave()
                await asyncio.sleep(0.1)
        self._world.expect(False, f"{self.name}: no turn completes")
        return True

    def _compare(self, history: list[dict[str, object]]) -> None:
        world = self._world
        assert self.opened is not None
        if self._at_risk:
            return
        said = "\n".join(str(message["content"]) for message in history)
        calls = "\n".join(json.dumps(message.get("tool_calls", "")) for message in history)
        for input_id, turn_id in self._accepted.items():
            seen, kind = self._turns.get(turn_id), self._texts[input_id].partition(" ")[0]
            if seen is None or seen.end is None or seen.reported or kind == "history":
                continue
            if seen.end[0] == "completed" and not kind.startswith("tool"):
                world.expect(seen.text in said, f"{self.name}: the answer to {input_id} is lost: {seen.text}")
        for effect in world.agents.effects:
            if effect.rpartition(".")[0] in self._accepted:
                count = calls.count(f'"{effect}\\')
                world.expect(count == 1, f"{self.name}: the effect {effect} is {count} times in the history")

    # --- what it is told ---------------------------------------------------------------------------

    def receive(self, line: Line, frame: bytes) -> None:
        """Take a frame."""
        if line is not self._line:
            return
        world = self._world
        self._heard_at = world.loop.time()
        event = JSON.decode_server(frame)
        world.trace.note(self.name, "receives", frame)
        match event:
            case bp.SessionOpened():
                self._take_opened(event, line)
            case bp.Snapshot():
                self._take_snapshot(event)
            case bp.ReplayDone():
                world.expect(event.through == self._seq, f"{self.name}: a replay left a hole")
                self._live = True
            case bp.InterruptResult():
                self._unanswered.pop(event.interrupt_id, None)
                first = self._answers.setdefault(event.interrupt_id, event.outcome)
                same = first == event.outcome or self._at_risk
                world.expect(same, f"{self.name}: {event.interrupt_id} got {first}, then {event.outcome}")
            case bp.InputRejected():
                self._refused.add(event.input_id)
                self._unanswered.pop(event.input_id, None)
            case bp.ErrorEvent():
                lost = event.code == "session_lost" or (event.code == "unknown_turn" and self._at_risk)
                world.expect(lost, f"{self.name} got {event}")
            case bp.GoAway():
                world.loop.call_later(event.reconnect_after_ms / 1000, self._go_elsewhere, line)
            case _:
                if isinstance(event, (bp.InputAccepted, bp.InputQueued)):
                    self._accept(event.input_id, event.turn_id)
                if isinstance(event, bp.Numbered) and event.seq:
                    self._take_numbered(event, frame)
        self._changed.set()

    @property
    def _at_risk(self) -> bool:
        return self.opened is not None and self._world.at_risk(self.opened.session_id)

    def _go_elsewhere(self, line: Line) -> None:
        if line is self._line:
            self._leave()
            self._changed.set()

    def _accept(self, input_id: str, turn_id: bp.TurnId) -> None:
        before = self._accepted.setdefault(input_id, turn_id)
        same = before == turn_id or self._at_risk
        self._world.expect(same, f"{self.name}: {input_id} got {before}, then {turn_id}")
        self._accepted[input_id] = turn_id
        self._turns.setdefault(turn_id, Seen())
        self._unanswered.pop(input_id, None)

    def _take_opened(self, event: bp.SessionOpened, line: Line) -> None:
        world, before = self._world, self.opened
        if before is not None and not event.resumed:
            why = f"{self.name}: the resume of {before.session_id} was refused: {event.reason}"
            late = world.loop.time() - self._shown_at > OVERLAP_S
            world.expect(self._at_risk or late, why)
            world.lost_sessions += 1
            self._forget()
        elif before is not None:
            world.expect(event.session_id == before.session_id, f"{self.name} resumed another session")
            world.expect(event.epoch == before.epoch, f"{self.name} resumed another epoch")
            world.resumed += 1
        self.opened, self._shown_at = event, inf
        world.known.add(event.session_id)
        line.node.opened.add(event.session_id)
        self._live = not event.resumed

    def _take_numbered(self, event: bp.Numbered, frame: bytes) -> None:
        world = self._world
        assert self.opened is not None
        world.expect(event.seq == self._seq + 1, f"{self.name} got number {event.seq} after {self._seq}")
        self._seq = event.seq
        self.events += 1
        told = world.told.setdefault((self.opened.session_id, event.seq), frame)
        world.expect(told == frame, f"{self.name}: number {event.seq} was {told!r} and is {frame!r}")
        if not isinstance(event, bp.TurnEvent):
            return
        seen = self._turns.setdefault(event.turn_id, Seen())
        world.expect(seen.end is None, f"{self.name} got {event} after the end")
        if isinstance(event, bp.TextDelta):
            seen.text += event.text
            seen.said.append((world.loop.time(), len(seen.text)))
        elif isinstance(event, bp.TurnEnded):
            seen.end = (event.status, event.reason)

    def _take_snapshot(self, event: bp.Snapshot) -> None:
        world = self._world
        world.expect(event.through >= self._seq, f"{self.name} got a snapshot that goes back")
        world.snapshots += 1
        self._seq = event.through
        for state in event.turns:
            if state.input_id is not None:
                self._accept(state.input_id, state.turn_id)
            seen = self._turns.setdefault(state.turn_id, Seen())
            text = state.lanes[""].text if "" in state.lanes else ""
            end = (state.status, state.reason or "") if state.status is not None else None
            own = seen.end is not None and seen.end[0] == "interrupted" and end == ("failed", "node_lost")
            same = seen.end is None or seen.end == end or own or self._at_risk
            world.expect(same, f"{self.name}: {state.turn_id} ended with {seen.end}, and then with {end}")
            if seen.end is not None and seen.end == end:
                world.expect(seen.text == text or self._at_risk, f"{self.name}: {state.turn_id} has changed")
            elif not own:
                self._check_taken_back(seen, text, state.turn_id)
            if not own or seen.end is None:
                seen.end = end
            seen.text = text

    def _check_taken_back(self, seen: Seen, text: str, turn_id: bp.TurnId) -> None:
        world = self._world
        if seen.text.startswith(text):
            kept_until = seen.said[-1][0] - KEPT_S if seen.said else 0.0
            old = max((chars for at, chars in seen.said if at < kept_until), default=0)
            world.taken_back += len(seen.text) - len(text)
            fine = len(text) >= old or self._at_risk
            world.expect(fine, f"{self.name}: {turn_id} lost {len(seen.text) - len(text)} characters")
        else:
            world.expect(text.startswith(seen.text) or self._at_risk, f"{self.name}: {turn_id} has changed")
