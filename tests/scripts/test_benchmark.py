from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import benchmark
import wire
from speed import alone, capacity, crowd, footer, memory, rounds
from speed.capacity import CAUTION, Look, most
from speed.crowd import Crowd
from speed.figures import Figures, quantile, spread
from speed.plan import Plan
from speed.processes import FLOOR, NAMES, OURS, WATCHED, Broken, Served, listening, served
from speed.rounds import no_garbage
from speed.servers import CLEANUP_S, RATE
from speed.table import rows, table
from waiting import until

SCRIPT = wire.ROOT / "scripts" / "benchmark.py"
PLAN = Plan(rounds=1, seconds=0.2, sessions=(2,), flat_out=(2,), endless=(1,), interrupts=5)
ALONE = {"a thing": 12.0}


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is measured, and nothing for long."""
    for what, value in (("FLAT_OUT_TOKENS", 20_000), ("TURNS", 20), ("SETTLE_S", 0.0), ("CLEANUPS", 2)):
        monkeypatch.setattr(rounds, what, value)
    for what, value in (("FIRST", 1), ("TURN_TOKENS", 10), ("STREAM_S", 0.1), ("SETTLE_S", 0.0)):
        monkeypatch.setattr(memory, what, value)
    monkeypatch.setattr(capacity, "CAUTION", 0.0)  # begins with one session
    monkeypatch.setattr(capacity, "LOOK_S", 0.1)
    monkeypatch.setattr(capacity, "SETTLE_S", 0.0)
    monkeypatch.setattr(Look, "served", property(lambda look: look.size < 3))
    monkeypatch.setattr(crowd, "PHASE_S", 0.02)


def some(plan: Plan) -> Figures:
    """Return figures of everything: 2, 4 and 3 (ms) of the floor, 1.5 of ours, 6 with metrics."""
    found = Figures()
    for name, values in ((FLOOR, (4, 2, 3)), (OURS, (1.5, 1.5, 1.8)), (WATCHED, (6, 6, 6))):
        for row in rows(plan):
            for value in values[: plan.rounds]:
                if row.share == 0.5:
                    found.keep(row.what, name, [value / 1e3])
                elif row.share is None:
                    found.note(row.what, name, value)
        for n in plan.sessions:
            found.note(f"utilisation {n}", name, 0.5)
            found.note(f"load {n}", name, 0.4)
    for key in [key for key in found.values if key[0].startswith("load ")]:
        found.values[key] = [0.4]
    return found


async def test_every_server_is_measured(brief: None) -> None:
    """A short run has every figure but memory, of the floor and of ours, with and without metrics."""
    steps: list[str] = []
    figures = Figures()
    with served(SCRIPT) as servers:
        for server in servers:
            await listening(server)
        async with asyncio.timeout(60):
            await rounds.measure(servers, PLAN, figures, steps.append)
    for row in rows(PLAN):
        for name in NAMES:
            if not row.what.startswith("memory") and not (row.floor and name == FLOOR):
                assert len(figures.rounds(row.what, name, row.share)) == 1
                assert figures.get(row.what, name, row.share) > 0
    assert {step.rpartition(", ")[2] for step in steps} >= set(NAMES)
    assert all(figures.get("capacity", name) == 2 for name in NAMES)
    assert all(figures.count("ended 2", name) >= PLAN.interrupts for name in NAMES)
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
    assert min(rounds.UNHURRIED_S, rounds.TURN_S) * 0.5 > CLEANUP_S


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


@pytest.mark.parametrize("name", [FLOOR, OURS])
async def test_a_line_that_is_lost_gives_no_figures(name: str) -> None:
    """Whether somebody waits for an answer or nobody does, a line that goes is told."""

    async def waited_for(server: Served, clients: Crowd) -> None:
        await clients.start("trickle")
        os.kill(server.pid, signal.SIGKILL)
        await clients.barge_in("trickle", 0.01, 60, 1)

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


async def grown(first: int, fits: int) -> tuple[Look, list[int]]:
    """Return what was found, and the sizes looked at, where `fits` sessions fit."""
    sizes: list[int] = []

    async def look(size: int) -> Look:
        sizes.append(size)
        return Look(size, 0.02, 50.0 if size <= fits else 44.0, 0.3)

    return await most(first, look), sizes


async def test_a_crowd_grows_until_it_is_not_served() -> None:
    """It grows by 4 % as long as all get their tokens; where the first is too large, it shrinks."""
    found, sizes = await grown(500, 560)
    assert (found.size, sizes) == (541, [500, 520, 541, 563])
    found, sizes = await grown(500, 470)
    assert (found.size, sizes) == (461, [500, 480, 461])
    for first, fits in ((500, 10_000), (500, 0)):
        with pytest.raises(Broken, match="no end"):
            await grown(first, fits)


def test_a_crowd_is_served_when_everyone_gets_tokens_in_time() -> None:
    """The 99th percentile of gaps is 50 ms at most, and the slowest session gets 45 tokens a second."""
    assert Look(1, 0.05, 45.0, 0.1).served
    assert not Look(1, 0.051, 45.0, 0.1).served
    assert not Look(1, 0.05, 44.9, 0.1).served


async def test_a_crowd_is_looked_at_whole(monkeypatch: pytest.MonkeyPatch, brief: None) -> None:
    """The load and the gaps are those of the largest crowd that was served, and begin with an estimate."""
    looks: list[Look] = []

    def verdict(look: Look) -> bool:
        looks.append(look)
        return look.size < 6

    monkeypatch.setattr(Look, "served", property(verdict))
    monkeypatch.setattr(capacity, "CAUTION", CAUTION)
    figures = Figures()
    figures.note("cpu per token 2", FLOOR, CAUTION / (RATE * 4.5))
    with served(SCRIPT, (FLOOR,)) as (server,):
        await listening(server)
        await capacity.capacity(server, PLAN, figures)
    assert {look.size for look in looks} == {4, 5, 6}
    best = next(look for look in looks if look.size == 5)
    assert figures.values["capacity", FLOOR] == [5]
    assert figures.values["load capacity", FLOOR] == [best.load]
    assert 0 < best.gap_s < capacity.LOOK_S
    assert 0 < best.tokens_per_s <= RATE * 1.5


# --- the table ---------------------------------------------------------------------------------------


def test_the_table_holds_medians_and_ratios() -> None:
    """A row is the median of the floor, that of ours, one by the other, and how far rounds are apart."""
    plan = Plan(sessions=(1,), flat_out=(), endless=(1,))
    lines = table(some(plan), ALONE, plan)
    one = "1 session at 50 tokens/s"
    assert f"| interrupt → `turn.ended`, p50 ms, {one} | 3.00 | 1.50 | 0.50 | 2.00 | 67% |" in lines
    # Beyond the median, all rounds are one: the worst counts.
    assert f"| the same, p99 ms, {one} | 4.00 | 1.80 | 0.45 | 1.50 | 67% |" in lines
    endless = f"1 session whose agent never suspends; floor: p50 of {one}"
    assert f"| interrupt → `turn.ended`, p99 ms, {endless} | 3.00 | 1.80 | 0.60 | 2.00 | 20% |" in lines
    assert "| of its core the load used for that, % | 40 | 40 |  |  | ? |" in lines
    assert "| a thing | 12 |" in lines
    assert any("rounds differ by up to 67%" in line for line in footer.footer(some(plan), plan, 0.0))


def test_one_round_says_nothing_about_noise() -> None:
    """The spread is that of the rounds by their median; a single one has none."""
    assert spread([1.0, 2.0, 4.0]) == 1.5
    plan = Plan(rounds=1, sessions=(1,), flat_out=(), endless=())
    assert all(line.endswith("| ? |") for line in table(some(plan), {}, plan) if "ms" in line)
    assert "noise: unknown, there was one round" in footer.footer(some(plan), plan, 0.0)


def test_a_tail_is_that_of_all_rounds() -> None:
    """A median is that of the rounds' medians; a 99th percentile that of all durations together."""
    figures = Figures()
    for usual, worst in ((0.1, 1.0), (0.2, 1.0), (0.3, 9.0)):
        figures.keep("ended 1", OURS, [worst, *[usual] * 49])
    assert figures.get("ended 1", OURS, 0.5) == 0.2
    assert figures.rounds("ended 1", OURS, 0.99) == [1.0, 1.0, 9.0]
    assert figures.get("ended 1", OURS, 0.985) == 1.0
    assert figures.get("ended 1", OURS, 0.99) == 1.0
    assert figures.get("ended 1", OURS, 0.995) == 9.0
    assert figures.count("ended 1", OURS) == 150
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([1.0], 0.99) == 1.0


@pytest.mark.parametrize("stretch", ["load 1", "load capacity", "load endless 1"])
def test_a_load_that_is_the_bottleneck_is_told(stretch: str) -> None:
    """When the load uses its core up, in any stretch, the footer says so; otherwise it does not."""
    plan = Plan(sessions=(1,), flat_out=(), endless=(1,))
    figures = some(plan)
    figures.values["load endless 1", OURS] = [0.5]
    assert not any("BOTTLENECK" in line for line in footer.footer(figures, plan, 0.0))
    figures.values[stretch, OURS] = [0.95]
    (told,) = [line for line in footer.footer(figures, plan, 0.0) if "BOTTLENECK" in line]
    assert f"{stretch.removeprefix('load ')}: 95%" in told


def test_few_interrupts_and_a_busy_machine_are_told() -> None:
    """A p99 of fewer than 1000 interrupts is told, and a machine that was not idle before."""
    plan = Plan(sessions=(1,), flat_out=(), endless=())
    figures = some(plan)
    assert any("TOO FEW" in line for line in footer.footer(figures, plan, 0.0))
    for name in NAMES:
        figures.keep("ended 1", name, [0.002] * 997)
    below = footer.footer(figures, plan, 0.4)
    assert "interrupts of each server, at least: 1,000 (1 session)" in below
    assert "load average before it began: 0.4" in below
    assert not any("TOO FEW" in line or "NOT IDLE" in line for line in below)
    assert any("NOT IDLE" in line for line in footer.footer(figures, plan, 0.6))


def test_the_file_holds_every_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table's rows, each round's numbers and durations, and what it was measured on."""

    async def run(plan: Plan) -> Figures:
        return some(plan)

    monkeypatch.setattr(benchmark, "run", run)
    monkeypatch.setattr(benchmark, "prepare", lambda: None)
    monkeypatch.setattr(benchmark, "alone", lambda: ALONE)
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--sessions", "1", "--json", str(file)])
    assert benchmark.main() == 0
    found = json.loads(file.read_text("utf-8"))
    assert found["values"]["cpu per turn"][FLOOR] == [4, 2, 3]
    assert found["times_ms"]["ended 1"][OURS] == [[1.5], [1.5], [1.8]]
    assert found["rows"][0][FLOOR] == 3.0
    assert found["plan"]["sessions"] == [1]
    assert found["machine"] in found["notes"]
    assert found["alone_ns"] == ALONE


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
