from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import benchmark
import golden_vectors as wire
from speed import alone, capacity, crowd, interrupts, memory, rounds
from speed.capacity import APPROACH, BEYOND, STRIDE, Capacity, Look, Staircase
from speed.crowd import Crowd
from speed.figures import Figures
from speed.floor import LONGEST_S, RATE, TURN_S
from speed.interrupts import Interrupts
from speed.plan import Plan
from speed.processes import ALL, FLOOR, LEAST, NAMES, OURS, Broken, Served, listening, served
from speed.rounds import no_garbage
from speed.servers import CLEANUP_S
from speed.table import rows
from waiting import until

SCRIPT = wire.ROOT / "scripts" / "benchmark.py"
PLAN = Plan(
    rounds=2,
    seconds=0.2,
    sessions=(2,),
    flat_out=(2,),
    endless=(1,),
    looks=APPROACH + 2,
    cleanups=4,
    interrupts=10,
)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is measured, and nothing for long."""
    for what, value in (("FLAT_OUT_TOKENS", 20_000), ("TURNS", 20), ("SETTLE_S", 0.0), ("WARM_SESSIONS", 2)):
        monkeypatch.setattr(rounds, what, value)
    for what, value in (("FIRST", 1), ("TURN_TOKENS", 10), ("STREAM_S", 0.1), ("SETTLE_S", 0.0)):
        monkeypatch.setattr(memory, what, value)
    monkeypatch.setattr(capacity, "BEYOND", 0.0)  # begins with one session
    monkeypatch.setattr(capacity, "LOOK_S", 0.1)
    monkeypatch.setattr(capacity, "SETTLE_S", 0.0)
    monkeypatch.setattr(Look, "served", property(lambda look: look.size < 3))
    monkeypatch.setattr(crowd, "PHASE_S", 0.02)


@pytest.mark.nightly
async def test_every_server_is_measured(brief: None) -> None:
    """A short run has every figure but memory, of the floor and of ours, with and without metrics."""
    steps: list[str] = []
    figures = Figures()
    started: list[Sequence[str]] = []

    def serve(names: Sequence[str]) -> AbstractContextManager[list[Served]]:
        started.append(names)
        return served(SCRIPT, names)

    async with asyncio.timeout(180):
        await rounds.measure(serve, PLAN, figures, steps.append)
    assert started == [ALL] * PLAN.rounds  # a process may be slow by accident: each is one of many
    for row in rows(PLAN):
        for name in NAMES:
            if not row.what.startswith("memory") and not (row.floor and name == FLOOR):
                assert len(figures.rounds(row.what, name, row.share)) == 2
                assert figures.get(row.what, name, row.share) > 0
    assert len(steps) == 6 * PLAN.rounds + PLAN.looks
    assert all(set(figures.rounds("capacity", name)) == {2, 3} for name in NAMES)
    assert all(figures.count("ended 2", name) >= PLAN.interrupts for name in ALL)
    assert figures.get("first 2", LEAST, 0.5) > 0
    assert figures.count("endless 1", OURS) >= PLAN.interrupts
    # The next turn does not wait for the cleanup of the old one (contract 5).
    assert figures.get("again 2", OURS, 0.5) < CLEANUP_S


async def test_memory_comes_from_new_processes(brief: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle sessions and streaming ones have a server of their own each, which freed nothing before."""
    monkeypatch.setattr(memory, "NAMES", (FLOOR, OURS))
    figures, started = Figures(), list[tuple[str, ...]]()

    def serve(names: Sequence[str]) -> AbstractContextManager[list[Served]]:
        started.append(tuple(names))
        return served(SCRIPT, names)

    async with asyncio.timeout(60):
        await memory.memory(serve, PLAN, figures, lambda step: None)
    assert started == [(FLOOR,), (FLOOR,), (OURS,), (OURS,)]
    whats = {row.what for row in rows(PLAN) if row.what.startswith("memory")}
    assert len(whats) == 3
    assert set(figures.values) == {(what, name) for what in whats for name in (FLOOR, OURS)}


def test_no_interrupt_overlaps_an_earlier_cleanup() -> None:
    """Where cleanup is slow, a turn runs longer than that takes: a second cleanup would rightly delay it."""
    assert min(rounds.UNHURRIED_S, TURN_S) * 0.5 > CLEANUP_S


async def test_interrupts_go_on_until_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for a 99th percentile, however short the stretch; and nobody sleeps on when there are."""
    with served(SCRIPT, (FLOOR,)) as (server,):
        await listening(server)
        async with asyncio.timeout(20), Crowd(server, 2) as clients:
            await clients.start("trickle")
            found = Interrupts("trickle", 0.01)
            await found.of(clients, 0.0, 20)
            assert 20 <= len(found.ended) == len(found.first) == len(found.again) <= 22
            monkeypatch.setattr(interrupts, "Random", Late)
            alone = Interrupts("trickle", 0.01)
            await alone.of(clients, 0.0, 20)
            assert len(alone.ended) == 20


class Late:
    """Chance that lets the first client begin at once, and the others never."""

    def __init__(self, n: int) -> None:
        self._n = n

    def random(self) -> float:
        return self._n * 1e9

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


async def test_who_is_hushed_is_silent() -> None:
    """Turns that run are stopped, and nobody waits for the end of one that does not run."""
    for name in (FLOOR, OURS, LEAST):
        with served(SCRIPT, (name,)) as (server,):
            await listening(server)
            async with asyncio.timeout(20), Crowd(server, 2) as clients:
                await clients.start("trickle", clients.clients[:1])
                await clients.hush()
                tokens = clients.tokens
                await asyncio.sleep(3 / RATE)
                assert clients.tokens == tokens > 0
                await clients.hush()
                await clients.start("trickle")
                assert clients.tokens >= tokens + 2


def test_no_turn_outgrows_the_ends_of_the_floor() -> None:
    """The floor has prepared an end for the longest turn that anybody cuts off."""
    longest = crowd.PHASE_S + 2 * Plan().seconds + 2 * 1.5 * TURN_S
    assert longest < LONGEST_S


async def test_server_and_load_have_a_core_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is started by a load that keeps to its core does not inherit it."""
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    try:
        benchmark.prepare()
        with served(SCRIPT, (FLOOR,)) as (server,):
            await listening(server)
            cores = os.sched_getaffinity(server.pid), os.sched_getaffinity(0)
    finally:
        os.sched_setaffinity(0, before)
    assert cores == (before, before) if len(before) < 2 else ({min(before)}, {sorted(before)[1]})


# --- what fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('connection failed', flush=True); time.sleep(60)", "connection failed"),
        ("exit(3)", "ended with 3"),
    ],
)
async def test_a_server_that_complains_gives_no_figures(tmp_path: Path, code: str, said: str) -> None:
    """A server that writes anything, which is a warning at least, or that ends, is told with its words."""
    script = tmp_path / "server.py"
    script.write_text(f"import time\n{code}\n", "utf-8")

    async def run(error: Exception | None = None) -> None:
        with served(script, (FLOOR,)) as (server,):
            await until(lambda: server.complaint, "its complaint")
            with pytest.raises(Broken, match=said):
                await listening(server)
            if error is not None:
                raise error

    with pytest.raises(Broken, match=said):
        await run()
    with pytest.raises(ValueError, match="else") as failed:
        await run(ValueError("something else"))
    assert any(said in line for line in benchmark.why(failed.value))


async def failing(name: str, talk: Callable[[Served, Crowd], Awaitable[object]]) -> str:
    """Return why there are no figures of two clients and a server."""
    try:
        with served(SCRIPT, (name,)) as (server,):
            await listening(server)
            async with asyncio.timeout(20), Crowd(server, 2) as clients:
                await talk(server, clients)
    except (Broken, ExceptionGroup) as error:
        return "\n".join(benchmark.why(error))
    return ""


async def test_an_agent_that_fails_gives_no_figures() -> None:
    """A turn that failed is no turn, and the server's own words say why."""
    reasons = await failing(OURS, lambda _, clients: clients.all_say("flat nonsense"))
    assert '"status":"failed"' in reasons
    assert "ValueError" in reasons


async def test_what_is_refused_gives_no_figures() -> None:
    """A client whom the server tells of an error is of no use, though no one waits for anything."""

    async def talk(server: Served, clients: Crowd) -> None:
        clients.clients[0].say({"type": "nonsense"})
        await until(lambda: clients.lost, "the error")

    assert '"type":"error"' in await failing(OURS, talk)


@pytest.mark.parametrize("name", [FLOOR, OURS, LEAST])
async def test_a_line_that_is_lost_gives_no_figures(name: str) -> None:
    """Whether somebody waits for an answer or nobody does, a line that goes is told."""

    async def waited_for(server: Served, clients: Crowd) -> None:
        await clients.start("trickle")
        os.kill(server.pid, signal.SIGKILL)
        await Interrupts("trickle", 0.01).of(clients, 60, 1)

    async def idle(server: Served, clients: Crowd) -> None:
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: clients.lost, "the loss")

    for talk in (waited_for, idle):
        assert "a line was lost" in await failing(name, talk)


def test_without_figures_the_exit_code_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is broken prints no table, writes no file, and says why."""

    async def broken(plan: Plan) -> Figures:
        raise ExceptionGroup("tasks", [Broken("a line was lost with 1006")] * 2)

    monkeypatch.setattr(benchmark, "run", broken)
    monkeypatch.setattr(benchmark, "prepare", lambda: None)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--json", str(tmp_path / "figures.json")])
    assert benchmark.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["no figures:", "a line was lost with 1006"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 130), ("SIGKILL", -9)])
async def test_whoever_is_ended_leaves_no_server(number: str, code: int) -> None:
    """Ctrl-C, SIGTERM, and even what cannot be caught, end the servers, too."""
    process = await asyncio.create_subprocess_exec(sys.executable, SCRIPT, "--quick", stderr=subprocess.PIPE)
    assert process.stderr is not None
    await process.stderr.readline()  # it begins with a server
    servers = await until(lambda: children(process.pid), "a server")
    process.send_signal(signal.Signals[number])
    assert await process.wait() == code
    await until(lambda: not any(map(runs, servers)), "the server's end")


def children(pid: int) -> list[str]:
    """Return the ids of the processes that a process has started."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()


def runs(pid: str) -> bool:
    """Return whether a process does, and is no zombie that waits for its reaper."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- how many sessions -------------------------------------------------------------------------------


def climbed(first: int, fits: int, looks: int) -> list[int]:
    """Return the sizes that are looked at, where `fits` sessions fit."""
    staircase, sizes = Staircase(first, 0.05), []
    for _ in range(looks):
        sizes.append(staircase.size)
        staircase.go_on(staircase.size <= fits)
    return sizes


@pytest.mark.parametrize(("first", "fits"), [(500, 560), (500, 470), (100, 1000), (1000, 100)])
def test_looks_stay_around_the_border(first: int, fits: int) -> None:
    """A crowd grows until it is not served, and shrinks until it is, in steps that get smaller."""
    sizes = climbed(first, fits, 40)
    assert max(sizes[20:]) < fits * 1.06
    assert min(sizes[20:]) > fits / 1.06
    assert {size <= fits for size in sizes[20:]} == {True, False}
    step = abs(sizes[1] - sizes[0]) / min(sizes[:2])
    assert step == pytest.approx(0.05 * STRIDE, rel=0.05)


def test_there_is_no_crowd_without_clients() -> None:
    """It never shrinks to none, and small ones change by one client at least."""
    assert climbed(2, 0, 4) == [2, 1, 1, 1]
    assert climbed(1, 3, 6) == [1, 2, 3, 4, 3, 4]


async def test_a_border_that_is_never_passed_gives_no_figures(
    monkeypatch: pytest.MonkeyPatch, brief: None
) -> None:
    """When all crowds were served up to the last look, nobody knows how many would be."""
    monkeypatch.setattr(Look, "served", property(lambda look: True))
    plan = Plan(sessions=(2,), looks=2)
    figures = Figures()
    figures.note("cpu per token 2", FLOOR, 1.0)
    with served(SCRIPT, (FLOOR,)) as (server,):
        await listening(server)
        async with Crowd(server, 0) as clients:
            found = Capacity(plan, figures)
            await found.look(clients)
            with pytest.raises(Broken, match="no end"):
                await found.look(clients)


def test_a_crowd_is_served_when_everyone_gets_tokens_in_time() -> None:
    """The 99th percentile of gaps is 50 ms at most, and the slowest session gets 49 tokens a second."""
    assert Look(1, 0.05, 49.0, 0.1).served
    assert not Look(1, 0.051, 49.0, 0.1).served
    assert not Look(1, 0.05, 48.9, 0.1).served


async def test_a_crowd_is_looked_at_whole(monkeypatch: pytest.MonkeyPatch, brief: None) -> None:
    """All clients talk, looks begin with an estimate, and those that lead to the border are no figures."""
    looks: list[Look] = []

    def verdict(look: Look) -> bool:
        looks.append(look)
        return look.size < 6

    monkeypatch.setattr(Look, "served", property(verdict))
    monkeypatch.setattr(capacity, "BEYOND", BEYOND)
    figures = Figures()
    figures.note("cpu per token 2", FLOOR, BEYOND / (RATE * 4.5))
    with served(SCRIPT, (FLOOR,)) as (server,):
        await listening(server)
        async with Crowd(server, 0) as clients:
            found = Capacity(PLAN, figures)
            for _ in range(PLAN.looks):
                await found.look(clients)
                await clients.hush()
    assert looks[0].size == 4
    assert [look.size for look in looks[APPROACH:]] == figures.values["capacity", FLOOR]
    assert [look.load for look in looks[APPROACH:]] == figures.values["load capacity", FLOOR]
    assert all(0 < look.gap_s <= capacity.LOOK_S and 0 < look.tokens_per_s <= RATE * 1.5 for look in looks)


# --- the instrument ----------------------------------------------------------------------------------


def test_no_garbage_is_collected_while_measuring() -> None:
    """Collection is off meanwhile, and on again whatever happens."""
    states = []

    def fail() -> None:
        with no_garbage():
            states.append(gc.isenabled())
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert [*states, gc.isenabled()] == [False, True]


def test_codec_and_core_are_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes some nanoseconds an event."""
    monkeypatch.setattr(alone, "EVENTS", 50)
    figures = alone.alone()
    assert len(figures) == 5
    assert all(ns > 0 for ns in figures.values())
