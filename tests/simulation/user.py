"""A user with the real client: asks, interrupts, holds, loses the line, comes back, and leaves somehow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

import bargein_protocol as bp
from bargein_client import Backoff, BargeinError, ClientSession, ClientTurn, SessionReplaced
from bargein_client.environment import Environment
from bargein_client.inbox import Bounds
from bargein_server.core.turn_record import MAX_TURN_CHARS

from .agents import KINDS
from .hearing import COUGH, HUM, PIECE_MS, RATE
from .network import Link
from .oracle import BY_FORCE
from .witness import WatchedCore, Witness

if TYPE_CHECKING:
    from .world import World

SOUND = bp.AudioFormat(rate=RATE)

PATIENCE_S = 400.0
"""No turn takes longer for its user, whatever happens to the line, as long as it comes back."""


class Mood(Struct):
    """How users of a run behave; probabilities for each action.

    Args:
        pause_s: The longest pause between two actions, in seconds.
        actions: The names of actions, some more often than others.
        kinds: What agents are asked to do.
    """

    pause_s: float
    actions: list[str]
    kinds: list[str]


def draw_mood(chance: random.Random) -> Mood:
    """Return how the users of a run behave: each run leaves some things out and overdoes others."""
    actions = []
    for name in User.ACTIONS:
        actions += [name] * chance.choice([0, 1, 1, 2, 5])
    actions += ["ask"] * 4
    kinds = [kind for kind in KINDS if chance.random() < 0.6] or ["talks"]
    return Mood(chance.choice([0.01, 0.1, 1.0, 3.0]), actions, kinds)


NONSENSE = [
    b"{", b"[]", b"\0binary", b'{"type":"no.such"}', b'{"type":"input.text","id":1}',
    b'{"type":"ping","id":"p"}', b'{"type":"session.open"}', b'{"type":"input.commit","id":"c"}',
    b'{"type":"turn.hold","turn_id":"none"}', b'{"type":"tool.decision","call_id":"c","allow":true}',
]  # fmt: skip


class _Followed:
    """A turn that the user reads, and what the user did to it."""

    def __init__(self, session: ClientSession, turn: ClientTurn) -> None:
        self.session = session
        self.turn = turn
        self.cut = False  # interrupted, and not told that the rest is to be heard


class User:
    """See the module."""

    ACTIONS = ("interrupt", "interrupt_late", "interrupt_blindly", "hold", "resume", "playback", "update",
               "rewind", "cut", "stop_reading", "repeat", "talk_nonsense", "wait", "speak", "make_noise",
               "commit", "clear")  # fmt: skip

    def __init__(self, world: World, number: int) -> None:
        self.name = f"user{number}"
        self.witness = Witness(self.name, world.oracle)
        self._world = world
        self._chance = random.Random(f"{world.seed} {self.name}")
        self._ids = count(1)
        self._link: Link | None = None
        self._session: ClientSession | None = None
        self._turns: list[_Followed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._speaks = False

    async def run(self) -> None:
        """Use the server for a while."""
        for _ in range(self._chance.randint(1, 2)):
            try:
                await self._open()
            except BargeinError:
                await asyncio.sleep(self._chance.random() * 3)
                continue
            for _ in range(self._chance.randint(1, self._world.actions)):
                if self._session is None or self._session._over.done():
                    break
                await self._act()
            await self._leave()

    # --- the line --------------------------------------------------------------------------------

    async def _open(self) -> None:
        world, chance = self._world, self._chance
        bounds = chance.choice([None, Bounds(events=16, size=4096)])
        core = WatchedCore(bounds=bounds, audio=self._wanted_audio())
        core.witness = self.witness
        environment = Environment(
            new_id=lambda: f"{self.name}.{next(self._ids)}",
            random=chance.random,
            sleep=asyncio.sleep,
            clock=world.loop.time,
        )
        backoff = Backoff(base_s=chance.choice([0.01, 0.5]), cap_s=2.0)
        session = ClientSession(
            "simulated", self._dial, core, environment, backoff=backoff, give_up_after_s=60.0
        )
        await session._open()
        self._session, self._turns = session, []

    def _wanted_audio(self) -> bp.SessionAudio:
        if not self._world.hears:
            return bp.SessionAudio(output=SOUND)
        chance = self._chance
        detection = bp.TurnDetection(
            type="server" if chance.random() < 0.8 else "none",
            silence_ms=chance.choice([None, 300]),
            create_turn=chance.random() < 0.9,
            interrupt=chance.random() < 0.9,
        )
        return bp.SessionAudio(input=SOUND, output=SOUND, turn_detection=detection)

    async def _dial(self) -> Any:
        self._link = await self._world.connect(self.witness, self._chance)
        return self._link.line

    async def _leave(self) -> None:
        """Leave: after everything is over, in the middle, or without a word."""
        session, how = self._session, self._chance.random()
        assert session is not None
        replaced = session._over.done() and isinstance(session._over.result(), SessionReplaced)
        self._world.oracle.expect(not replaced, f"{self.name} was replaced, and nobody else was there")
        if self._link is not None:
            self._link.line.read_again()
        if how < 0.6:
            await self._hear_all()
        if how < 0.8:
            await session.close()
        else:
            assert session._runner is not None
            session._runner.cancel()
            await asyncio.wait([session._runner])
        for task in list(self._tasks):
            await asyncio.wait([task], timeout=120.0)
            self._world.oracle.expect(task.done(), f"{self.name}: somebody still waits after the session")
            task.cancel()
        self._session = None

    async def _hear_all(self) -> None:
        """Wait for the end of every turn, then hold what the client knows of it against the truth."""
        world, loop = self._world, self._world.loop
        until = loop.time() + PATIENCE_S
        for followed in self._turns:
            turn = followed.turn
            while not turn._end.done() and loop.time() < until:
                await asyncio.wait([turn._end], timeout=1.0)
            world.oracle.expect(turn._end.done(), f"{self.name}: {turn!r} does not end")
            truth = self.witness.truth
            # A session that is over, and a turn that the server has forgotten, have no end to be compared.
            known_end = turn.end is not None and turn.end.reason != "session_lost"
            known_end = known_end and not turn.state.dropped  # a snapshot shows it empty
            if truth is not None and known_end and turn.id in truth.ends:
                told, known = truth.fold(turn.id, truth.ends[turn.id].seq).folded(), turn.state
                texts = {source: lane.text for source, lane in told.lanes.items() if lane.text}
                heard = {
                    source: lane.text[:MAX_TURN_CHARS] for source, lane in known.lanes.items() if lane.text
                }
                same = (told.status, told.reason, told.heard, texts) == (
                    known.status, known.reason, known.heard, heard,
                )  # fmt: skip
                world.oracle.expect(same, f"{self.name} knows {known}, and it was {told}")

    # --- actions ---------------------------------------------------------------------------------

    async def _act(self) -> None:
        mood = self._world.mood
        action = self._chance.choice(mood.actions)
        self._world.trace.note(self.name, "does", action.encode())
        with suppress(BargeinError):  # too many requests wait, or the session is over
            getattr(self, f"_{action}")()
        if self._chance.random() < 0.6:
            await asyncio.sleep(self._chance.random() ** 3 * mood.pause_s)

    def _ask(self) -> None:
        assert self._session is not None
        chance = self._chance
        text = f"{chance.choice(self._world.mood.kinds)} {chance.getrandbits(32)}"
        on_busy = cast("bp.OnBusy | None", chance.choice([None, None, "interrupt", "queue", "reject"]))
        followed = _Followed(self._session, self._session.send(text, on_busy=on_busy))
        self._turns.append(followed)
        self._do(self._read(followed))
        if chance.random() < 0.2:
            self._do(self._cut_off(followed))  # before it was accepted

    def _some_turn(self, late: bool = False) -> _Followed | None:
        turns = [followed for followed in self._turns if late or followed.turn.end is None]
        return self._chance.choice(turns[-3:]) if turns else None

    def _interrupt(self) -> None:
        if followed := self._some_turn():
            self._do(self._cut_off(followed))

    def _interrupt_late(self) -> None:
        if followed := self._some_turn(late=True):
            self._do(self._cut_off(followed))

    def _interrupt_blindly(self) -> None:
        """For an input that never comes, a turn of somebody else, or one that is over; sometimes twice."""
        ids = [turn for truth in self._world.oracle.truths.values() for turn in truth.ends]
        known = bool(ids) and self._chance.random() < 0.7
        event = bp.Interrupt(
            id=bp.InterruptId(f"{self.name}.x{next(self._ids)}"),
            turn_id=self._chance.choice(ids) if known else None,
            input_id=None if known else bp.InputId("never"),
            reason="for nobody",
        )
        for _ in range(self._chance.randint(1, 2)):
            self._inject(bp.JSON.encode(event))

    async def _cut_off(self, followed: _Followed) -> None:
        turn, chance = followed.turn, self._chance
        played = chance.choice([None, bp.Played(chars=chance.randint(0, 40)), bp.Played(seq=bp.Seq(3))])
        force = chance.random() < 0.3
        reason = f"for {turn.input_id}{BY_FORCE if force else ''}"
        followed.cut = True
        try:
            result = await turn.interrupt(reason=reason, played=played, force=force)
            followed.cut = result.outcome in ("interrupted", "already_ended")
        except BargeinError:
            followed.cut = False

    def _rewind(self) -> None:
        """Drop one of the last turns and those after it, and mostly ask again in their place."""
        if (followed := self._some_turn(late=True)) and followed.turn.id is not None:
            self._do(self._drop(followed.session, followed.turn.id))
            if self._chance.random() < 0.7:
                self._ask()

    async def _drop(self, session: ClientSession, turn: bp.TurnId) -> None:
        await session.rewind(turn)

    def _hold(self) -> None:
        if followed := self._some_turn():
            self._do(followed.turn.hold())

    def _resume(self) -> None:
        if followed := self._some_turn():
            self._do(followed.turn.resume())

    def _playback(self) -> None:
        if (followed := self._some_turn(late=True)) and followed.turn.id:
            followed.turn.report_playback(chars=self._chance.randint(0, 100))

    def _update(self) -> None:
        assert self._session is not None
        self._session.update({self._chance.choice("abc"): self._chance.choice([None, 1, "x" * 100])})

    def _cut(self) -> None:
        if self._link is not None:
            silence = self._chance.random() < 0.3
            self._link.cut("silence" if silence else "reset")
            if silence and self._chance.random() < 0.5:
                self._link.line.abort()  # the client notices, the server does not

    def _stop_reading(self) -> None:
        """Read nothing for a while."""
        if self._link is not None:
            line = self._link.line
            line.read_again(False)
            seconds = self._chance.choice([0.1, 1.0, 10.0])
            self._world.loop.arrive(self._world.loop.time() + seconds, line.read_again)

    def _repeat(self) -> None:
        """Send what has no answer yet once more, as a client that is unsure does."""
        assert self._session is not None
        waiting = list(self._session._core._outbox.unanswered.values())
        if waiting and self._session.state.name == "open":
            self._inject(bp.JSON.encode(self._chance.choice(waiting)))

    def _talk_nonsense(self) -> None:
        """Write a frame that is no event, or one that nobody waits for."""
        self._inject(self._chance.choice(NONSENSE))

    def _wait(self) -> None:
        self._do(asyncio.sleep(0))

    def _inject(self, frame: bytes) -> None:
        """Write a frame past the client's core, which knows what to think of its answer."""
        if self._link is not None and self._session is not None and self._session.state.name == "open":
            self._link.line.send_frame(frame)

    # --- the microphone --------------------------------------------------------------------------

    def _speak(self) -> None:
        """Say something: a word, or a sentence with a turn's work in it."""
        chance = self._chance
        text = f"{chance.choice(self._world.mood.kinds)} {chance.getrandbits(32)}"
        self._say(self._world.phrases.sound(text, chance.choice([80, 300, 600, 1500])))

    def _make_noise(self) -> None:
        """Cough or hum."""
        number, ms = self._chance.choice([COUGH, HUM]), self._chance.choice([40, 200, 500, 1000])
        self._say(self._world.phrases.noise(number, ms))

    def _say(self, sound: bytes) -> None:
        if self._world.hears and not self._speaks and self._session is not None:
            self._speaks = True
            self._do(self._send_sound(self._session, sound))

    async def _send_sound(self, session: ClientSession, sound: bytes) -> None:
        """Send sound as it is said; some of it is lost with the line."""
        size = 2 * RATE * PIECE_MS // 1000
        try:
            for start in range(0, len(sound), size):
                session.microphone.send(sound[start : start + size])
                await asyncio.sleep(PIECE_MS / 1000)
        finally:
            self._speaks = False

    def _commit(self) -> None:
        if self._session is not None and self._world.hears:
            followed = _Followed(self._session, self._session.microphone.commit())
            self._turns.append(followed)
            self._do(self._read(followed))

    def _clear(self) -> None:
        if self._session is not None:
            self._session.microphone.clear()

    # --- beside the actions ----------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something without waiting for it."""

        async def quietly() -> None:
            with suppress(BargeinError):  # the input was refused, or the session is over
                await work

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            work.close()  # a task that is cancelled before its first step leaves it unawaited

        task = self._world.loop.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(done)

    async def _read(self, followed: _Followed) -> None:
        """Read a turn to its end; nothing of it is shown once it was interrupted (contract 2)."""
        turn, chance = followed.turn, self._chance
        lazy = chance.random() < 0.3
        async for event in turn:
            if isinstance(event, bp.Output):
                cut = followed.cut and turn.id not in self.witness.spared
                self._world.oracle.expect(not cut, f"{turn!r} was cut, and its reader got {event}")
            if isinstance(event, bp.ToolConfirm) and chance.random() < 0.8:
                followed.session.send_tool_decision(event.call_id, allow=chance.random() < 0.7)
            elif isinstance(event, bp.ToolRunning) and event.runs_in == "client" and chance.random() < 0.8:
                followed.session.send_tool_output(event.call_id, "seen")
            elif lazy:
                await asyncio.sleep(chance.random() * 0.2)
