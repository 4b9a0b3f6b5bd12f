"""One run: a server, users, strangers and a network, all of which follow from one seed."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import cast

from msgspec import Struct

import bargein_protocol as bp
from bargein_client.errors import ChannelClosed
from bargein_protocol.errors import ABNORMAL, RESTART
from bargein_server.core.principal import Principal
from bargein_server.hosting.hearing.ears import Ears
from bargein_server.hosting.host import SessionHost
from bargein_server.hosting.ports import ClientConnection
from bargein_server.hosting.registry import NO_TRACE, SessionRegistry
from bargein_server.settings import Settings
from bargein_server.settings_reader import settings_from

from .agents import Agents
from .hearing import RECOGNITION_S, Phrases, SimulatedEars
from .loop import SimulatedLoop, Stuck
from .network import Link, SimulatedFlushScheduler, Weather
from .oracle import Oracle, Truth
from .seams import seeded
from .strangers import idler, repeater, stranger
from .trace import Trace
from .user import User, draw_mood
from .witness import Witness

BOUND_S = 200.0
"""No turn runs for longer, in virtual seconds, whatever is done to it."""

LONGEST_STEP_S = 1e-3
"""No agent keeps others waiting for longer by never suspending (contract 12)."""

CHECK_S = 1.0
JUST_ENDED_S = 1e-3  # what was called at this very moment may still have something to do in the next step


class Result(Struct):
    """What came of a run.

    Args:
        seed: Its seed.
        fault: What is wrong; None when nothing is.
        digest: The hash of everything that happened.
        events: How many frames clients were given.
        numbered: How many events were numbered.
        steps: How many callbacks the loop ran.
        seconds: How long it took, in virtual seconds.
    """

    seed: str
    fault: str | None
    digest: str
    events: int
    numbered: int
    steps: int
    seconds: float


class WatchedSessions(SessionRegistry):
    """The real sessions; who enters them is noted."""

    oracle: Oracle

    def open(
        self,
        event: bp.SessionOpen,
        connection: ClientConnection,
        codec: bp.Codec,
        principal: Principal | None = None,
        trace: Mapping[str, str] = NO_TRACE,
        owner: str = "",
    ) -> SessionHost | None:
        """Attach a connection."""
        live = super().open(event, connection, codec, principal, trace, owner)
        if live is not None:
            self.oracle.opened(live, event)
        return live


def draw_settings(chance: random.Random) -> Settings:
    """Return limits that are small enough to be met."""
    return settings_from(
        {
            "on_busy": chance.choice(["interrupt", "interrupt", "queue", "reject"]),
            "cleanup": chance.choice(["overlap", "overlap", "wait"]),
            "no_output_s": chance.choice([1.5, 5.0]),
            "hold_s": chance.choice([0.2, 2.0]),
            "away_s": chance.choice([0.0, 1.0, 10.0]),
            "resume_s": chance.choice([0.0, 5.0, 60.0]),
            "drain_s": chance.choice([0.0, 1.0, 3.0]),
            "first_frame_s": chance.choice([1.0, 10.0]),
            "heartbeat_s": chance.choice([1.0, 5.0, 15.0]),
            "max_queued_inputs": chance.choice([0, 1, 2, 8]),
            "max_client_share": chance.choice([0.5, 1.0]),
            "max_sessions": chance.choice([3, 100]),
            "max_messages_per_s": chance.choice([5, 50, 500, 500]),
            "max_queued_output_bytes": chance.choice([1024, 8192, 65536]),
            "max_queued_answer_bytes": chance.choice([1024, 65536, 1024 * 1024]),
            "confirm_s": 5.0,  # the usual time is longer than most runs
            "max_log_events": chance.choice([1, 16, 64, 4096]),
            "max_log_bytes": chance.choice([1024, 16384, 1024 * 1024]),
            "max_history_turns": chance.choice([1, 3, 256]),
            "max_history_chars": chance.choice([100, 10_000, 1024 * 1024]),
            "stalled_s": chance.choice([5.0, 20.0]),
            "idle_s": chance.choice([20.0, 1000.0]),
            "max_running_turns": chance.choice([1, 2, 1000, 1000]),
            "max_waiting_turns": chance.choice([0, 2, 1000]),
            "turn_wait_s": chance.choice([1.0, 60.0]),
        }
    )


def draw_weather(chance: random.Random) -> Weather:
    """Return a network."""
    return Weather(
        delay_s=chance.choice([0.0, 0.001, 0.05, 1.0]),
        window=chance.choice([256, 4096, 65536]),
        high_water=chance.choice([512, 4096]),
        unread=chance.choice([2, 16, 1000]),
        split=chance.choice([0.0, 0.1, 0.7]),
        defers=chance.choice([0.0, 0.3, 0.9]),
    )


class World:
    """See the module.

    Args:
        seed: Everything follows from it.
        print_line: Takes a readable trace; None for none.
    """

    def __init__(self, seed: str, print_line: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(f"{seed} world")
        self.loop = SimulatedLoop(random.Random(f"{seed} loop"))
        self.trace = Trace(self.loop.time, print_line)
        self.oracle = Oracle(self.trace, self.loop.time, self.loop.stop)
        self.settings = draw_settings(self.chance)
        self.weather = draw_weather(self.chance)
        self.mood = draw_mood(self.chance)
        self.actions = self.chance.choice([5, 20, 50])
        self.users = [User(self, number) for number in range(self.chance.randint(1, 4))]
        self.links: list[Link] = []
        self.agents = Agents(self.oracle)
        self.phrases = Phrases()
        # A microphone sends fifty messages a second.
        self.hears = self.settings.max_messages_per_s >= 500 and self.chance.random() < 0.8
        if self.hears:
            self.mood.actions += ["speak"] * 4 + ["make_noise"] * 2
        self._up = True
        self._servers: list[WatchedSessions] = []

    def run(self) -> Result:
        """Let everything happen, then see that nothing is left."""
        fault: str | None = None
        logging.disable(logging.CRITICAL)
        gc.disable()  # a collector that runs at other times would close generators at other times
        try:
            with seeded(random.Random(f"{self.seed} server"), self.loop.look_at_clock, self._new_log):
                self.loop.run_until_complete(self._run())
        except Stuck as stuck:
            fault = str(stuck)
        except RuntimeError:
            if not self.oracle.faults:  # else the oracle has stopped the loop
                raise
        finally:
            self._clear_away()
            gc.enable()
            logging.disable(logging.NOTSET)
        fault = next(iter(self.oracle.faults), fault)
        oracle = self.oracle
        return Result(
            self.seed, fault, self.trace.digest(), oracle.answered, oracle.numbered, self.loop.steps,
            self.loop.time(),
        )  # fmt: skip

    def _clear_away(self) -> None:
        """End the tasks of a run that was stopped in the middle, or they would complain when collected."""
        self.oracle.over = True
        for _ in range(100):
            for server in self._servers:
                for live in server:
                    server.forget(live)
            self.loop.calm()
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            with suppress(RuntimeError, Stuck):  # it was stopped, and has not noticed before
                self.loop.run_until_complete(asyncio.sleep(1.0))

    def _new_log(self, max_events: int, max_bytes: int) -> Truth:
        return Truth(max_events, max_bytes, self.oracle)

    async def connect(self, witness: Witness, chance: random.Random) -> Link:
        """Connect to the server.

        Raises:
            ChannelClosed: It cannot be reached.
        """
        await asyncio.sleep(chance.random() * self.weather.delay_s)
        if not self._up or self.sessions.draining or chance.random() < 0.05:
            raise ChannelClosed(ABNORMAL, "no server is listening at this address")
        link = Link(self.loop, chance, self.weather, self.oracle, self.sessions, witness)
        self.links.append(link)
        return link

    async def _run(self) -> None:
        self._serve()
        create, chance = self.loop.create_task, self.chance
        peers = [create(user.run()) for user in self.users]
        for kind in (stranger, repeater, idler):
            if chance.random() < 0.3:
                peers.append(create(kind(self, 1)))
        if chance.random() < 0.2:
            peers.append(create(self._restart()))
        checks = create(self._check())
        await asyncio.wait(peers)
        for peer in peers:
            peer.result()
        checks.cancel()
        await asyncio.wait([checks])
        await self._settle()
        self._check_residue()

    def _serve(self) -> None:
        """Start the server."""
        self.sessions = WatchedSessions(self.agents, self.settings)
        self.sessions.oracle = self.oracle
        if self.hears:
            ears = SimulatedEars(self.loop, self.chance, self.oracle, self.phrases)
            self.sessions.ears = cast("Ears", ears)
        self.sessions.flush_scheduler = SimulatedFlushScheduler(self.loop, self.chance, self.weather)
        self._servers.append(self.sessions)
        self._up = True

    async def _restart(self) -> None:
        """Stop the server as uvicorn does, and start it again."""
        await asyncio.sleep(self.chance.random() ** 2 * 10)
        began, limits = self.loop.time(), self.settings
        stuck = await self.sessions.shut_down()
        bound = limits.drain_s + limits.cleanup_grace_s + 2 * limits.cleanup_kill_s + 0.1
        self.oracle.expect(self.loop.time() - began <= bound, "the server took too long to stop")
        stubborn = "cannot_be_stopped" in self.oracle.kinds.values()
        self.oracle.expect(not stuck or stubborn, f"{stuck} tasks are stuck")
        for live in self.sessions:
            self.oracle.expect(not live.core.busy, "a turn goes on after the shutdown")
        self._up = False
        for link in self.links:
            if not link.dead:
                link.connection.close(RESTART)
        await asyncio.sleep(self.chance.random() * 3)
        self._serve()  # nobody comes back to the old sessions, which are forgotten in their time

    async def _check(self) -> None:
        """Look at everything now and then."""
        while True:
            await asyncio.sleep(CHECK_S)
            self._check_now()

    def _check_now(self) -> None:
        self.oracle.check(self.sessions, BOUND_S)
        for link in self.links:
            link.check()
        self.links = [link for link in self.links if not link.dead]

    async def _settle(self) -> None:
        """Wait until everybody is forgotten, which takes a bounded time."""
        limits = self.settings
        cleanups = 2 * (limits.cleanup_grace_s + limits.cleanup_kill_s)
        # Sockets that nobody reads, turns of those who went away, what agents do behind the fence.
        until = self.loop.time() + 30.0 + limits.away_s + limits.resume_s + cleanups
        while self.links or any(map(len, self._servers)) or len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(CHECK_S)
            self._check_now()
            if self.loop.time() > until:
                break
        await asyncio.sleep(RECOGNITION_S if self.hears else JUST_ENDED_S)  # for sessions that are over
        self.oracle.expect(not any(map(len, self._servers)), "sessions that nobody wants are kept")
        self.oracle.expect(not self.links, "sockets that nobody reads are kept")

    def _check_residue(self) -> None:
        """Nothing is left: no task, no timer (contract 13), no turn without its end, no complaint."""
        oracle, loop = self.oracle, self.loop
        tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
        oracle.expect(not tasks, f"tasks are left: {sorted(task.get_name() for task in tasks)}")
        timers = [handle for handle in loop.timers() if handle.when() < float("inf")]
        oracle.expect(not timers, f"timers are left: {timers}")
        for session_id, truth in oracle.truths.items():
            open_turns = set(truth.by_input.values()) - truth.ends.keys()
            oracle.expect(not open_turns, f"{session_id}: {open_turns} have no end")
            oracle.expect(not truth.speaking, f"{session_id}: speech has started and never stopped")
            oracle.expect(not truth.owed, f"{session_id}: {sorted(truth.owed)} were given and never logged")
        oracle.expect(loop.longest_s < LONGEST_STEP_S, f"a step took {loop.longest_s} s")
        oracle.expect(not loop.complaints, f"the loop complained: {loop.complaints}")


def simulate(seed: str, print_line: Callable[[str], None] | None = None) -> Result:
    """Run a seed."""
    world = World(seed, print_line)
    try:
        return world.run()
    finally:
        world.loop.close()
