"""What each thing costs that a stranger or a client can make the server do: the table in security.md.

Each row is measured on a real server, and names a setting for every bound. Figures of another machine differ,
so a row holds while the measured cost is at most `TOLERANCE` times the one that is written.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from attackers import (
    BEARER,
    CONTINUATION,
    PING,
    TEXT,
    TOKEN,
    Line,
    connect,
    event,
    frame,
    open_session,
    request,
    upgrade,
)
from bargein_server import Settings
from processes import ROOT, ServerProcess, server

TOLERANCE = 3.0
ARENAS_KIB = 512
"""Memory that the allocator takes at once, two arenas: at some time, whichever act is the next."""

PAGE = ROOT / "server" / "docs" / "security.md"
AGENT = """
import asyncio

async def agent(turn):
    if turn.text == "wait":
        await asyncio.Event().wait()
    yield "hello"
"""

Act = Callable[[int], Awaitable[object]]


class Cost(Struct):
    """Something to measure.

    Args:
        act: Does it once, on the port; a `Line` that it returns stays open until all are counted.
        size: Bytes that one takes.
        times: How often to do it.
    """

    act: Act
    size: int
    times: int = 100


def cpu_s(process: ServerProcess) -> float:
    """Return the processor time of a server."""
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(process: ServerProcess) -> int:
    """Return the resident memory of a server in bytes."""
    pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def settled(process: ServerProcess) -> None:
    """Wait until the server is idle."""
    last = -1.0
    while (now := cpu_s(process)) != last:
        last = now
        await asyncio.sleep(0.1)


# --- the acts ----------------------------------------------------------------------------------------


def keeps(*data: bytes, of: Callable[[int], Awaitable[Line]] = upgrade) -> Act:
    """Send something on a connection of its own, which stays open."""

    async def act(port: int) -> Line:
        line = await of(port)
        line.writer.write(b"".join(data))
        await line.writer.drain()
        return line

    return act


def asks(data: bytes) -> Act:
    """Send a request on a connection of its own, and read the answer."""

    async def act(port: int) -> None:
        async with await connect(port) as line:
            await line.send(data)
            await line.until(b"\r\n\r\n")

    return act


async def _turn(port: int) -> Line:
    line = await open_session(port)
    await line.send(event(type="input.text", id="in_1", text="hello"))
    await line.until(b'"turn.ended"')
    return line


async def _interrupted(port: int) -> Line:
    line = await open_session(port)
    await line.send(event(type="input.text", id="in_1", text="wait"))
    await line.until(b'"input.accepted"')
    await line.send(event(type="interrupt", id="x_1"))
    await line.until(b'"turn.ended"')
    return line


async def _left(port: int) -> None:
    async with await open_session(port):
        pass


async def _resumed(port: int) -> None:
    async with await upgrade(port) as line:
        await line.send(event(type="session.open", auth=TOKEN))
        opened = json.loads(b"{" + (await line.until(b"}}")).partition(b"{")[2])
    resume = {
        "session_id": opened["session_id"],
        "token": opened["token"],
        "cursor": {"epoch": opened["epoch"], "seq": 0},
    }
    async with await upgrade(port) as line:
        await line.send(event(type="session.open", auth=TOKEN, resume=resume))
        await line.until(b'"session.opened"')


async def _followed(port: int) -> Line:
    line = await connect(port)
    await line.send(request("POST", "/v1/turns", b'{"text":"hello"}', BEARER))
    await line.until(b"turn.ended")
    return line


def _wrong_token(port: int) -> Awaitable[object]:
    return asks(request("POST", "/v1/turns", b'{"text":""}', {**BEARER, "Authorization": "Bearer x"}))(port)


_numbers = itertools.count()
_VALUES = event(type="tool.output", call_id="c", output=[[]] * 16_000)
_UPDATE = event(type="session.update", metadata={f"key {n}": n for n in range(1000)})
_QUEUED = event(type="input.text", id="in_2", text="", on_busy="queue", metadata={"a": [[]] * 7_000})
_BATCH = json.dumps({"inputs": [{"text": "hello"}] * 100}).encode()
_UPLOAD = request("POST", "/v1/batch", b"[" * 2**20, BEARER)[:-1]
_WAIT = event(type="input.text", id="in_1", text="wait")

COSTS: dict[str, Cost] = {
    "a connection that says nothing": Cost(keeps(of=connect), 1),
    "half a head": Cost(keeps(request("GET", "/", b"", {"X": "x" * 30_000})[:-4], of=connect), 30_000),
    "a handshake": Cost(keeps(), 200),
    "8,000 empty pings": Cost(keeps(frame(PING) * 8_000), 48_000, 20),
    "4,000 fragments of a byte": Cost(
        keeps(frame(TEXT, b"x", final=False) + frame(CONTINUATION, b"x", final=False) * 3_999), 28_000, 20
    ),
    "a frame that is no event": Cost(keeps(frame(TEXT, b"[" * 200_000)), 200_000, 50),
    "a frame of 16,000 values": Cost(keeps(_VALUES, of=open_session), len(_VALUES), 50),
    "a session, left at once": Cost(_left, 400),
    "an input and its turn": Cost(_turn, 500),
    "an interrupt and its turn": Cost(_interrupted, 600),
    "an update of 1,000 keys": Cost(keeps(_UPDATE, of=open_session), len(_UPDATE)),
    "a queued input with metadata": Cost(keeps(_WAIT, _QUEUED, of=open_session), len(_QUEUED), 50),
    "a resume": Cost(_resumed, 800),
    "a turn over HTTP": Cost(_followed, 300),
    "an unfinished upload of 1 MiB": Cost(keeps(_UPLOAD, of=connect), 2**20, 20),
    "a batch of 100 inputs": Cost(asks(request("POST", "/v1/batch", _BATCH, BEARER)), len(_BATCH), 10),
    "a ticket": Cost(asks(request("POST", "/v1/tickets", b"", BEARER)), 200),
    "a wrong token": Cost(_wrong_token, 200),
    "a probe": Cost(asks(request("GET", "/healthz")), 60),
}


# --- the table ---------------------------------------------------------------------------------------


class Row(Struct):
    """One line of the table: figures for one, and the names of the bounds."""

    cpu_us: float
    memory_kib: float
    bounds: list[list[str]]


def table() -> dict[str, Row]:
    """Return the rows of the table by what they are about."""
    text = PAGE.read_text().partition("<!-- costs -->")[2].partition("<!-- end of costs -->")[0]
    rows = {}
    for line in text.strip().splitlines()[2:]:
        what, cpu, kept, *bounds = (cell.strip() for cell in line.strip("|").split("|"))
        rows[what] = Row(
            float(cpu.replace(",", "")), float(kept.replace(",", "")),
            [re.findall(r"`(\w+)`", cell) for cell in bounds],
        )  # fmt: skip
    return rows


def test_each_cost_has_a_row_and_each_row_a_bound() -> None:
    """For a connection, for an address or a client, and for all: settings, or a constant with its name."""
    rows = table()
    assert set(rows) == set(COSTS)
    names = {
        *Settings.__struct_fields__,
        "SLICE_S",
        "FAILURES_PER_S",
        "MAX_CLIENT_VALUES",
        "MAX_SNAPSHOT_BYTES",
    }
    for what, row in rows.items():
        assert len(row.bounds) == 3, what
        for cell in row.bounds:
            assert cell, f"{what}: expected a bound in each column"
            assert set(cell) <= names, what


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """Start a server with tokens."""
    (tmp_path / "agents.py").write_text(AGENT)
    (tmp_path / "tokens").write_text(f"attacker {TOKEN}\n")
    async with server("agents:agent", tmp_path, "--tokens", "tokens", "--log-level", "error") as process:
        yield process


@pytest.mark.nightly
@pytest.mark.alone
@pytest.mark.needs("proc")
@pytest.mark.parametrize("what", COSTS)
async def test_a_cost_is_the_one_that_is_written(what: str, tmp_path: Path) -> None:
    """Processor time and memory of one, beside what a process needs that does it for the first time."""
    cost = COSTS[what]
    async with serving(tmp_path) as process:
        for _ in range(3):
            line = await cost.act(process.port)
            if isinstance(line, Line):
                line.writer.transport.abort()
            await settled(process)
        cpu, kept = cpu_s(process), memory(process)
        async with AsyncExitStack() as lines:
            for _ in range(cost.times):
                line = await cost.act(process.port)
                if isinstance(line, Line):
                    line.drop_answers()
                    await lines.enter_async_context(line)
            await settled(process)
            took_us = (cpu_s(process) - cpu) / cost.times * 1e6
            kept_kib = (memory(process) - kept) / cost.times / 1024
    print(f"\n| {what} | {took_us:,.0f} | {kept_kib:,.0f} | {took_us / cost.size * 1000:,.0f} ns for a byte")
    row = table()[what]
    assert took_us <= TOLERANCE * row.cpu_us
    assert kept_kib <= TOLERANCE * row.memory_kib + ARENAS_KIB / cost.times
