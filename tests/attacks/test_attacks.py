"""One address attacks; an honest client beside it is served as before."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import pytest
from websockets.asyncio.client import ClientConnection, connect

import bargein_protocol as bp
from attackers import ATTACKS, TOKEN
from processes import ROOT, ServerProcess, environment, server
from waiting import WAIT_S, until

HONEST = "token-of-the-honest-one"
ATTACK_S = 3.0
WARM_UP_S = 1.0
PAUSE_S = 0.03
MOST_S = 0.05
"""Bound of the 99th percentile of the time from an interrupt to its answer, under attack."""
MOST_TIMES = 10
"""Bound of the same in times of the calm server's."""
NOISE_S = 0.03
"""Below this the ratio says more of the calm server, whose 99th percentile is one of thirty times."""
BUDGET = 192 * 2**20
"""Bytes by which the server's memory may grow, of which 64 MiB are bodies and 64 MiB are snapshots."""

AGENT = """
import asyncio

async def agent(turn):
    if turn.text == "gush":
        while True:
            yield "x" * 1000
    for word in range(1000):
        yield f"{word} "
        await asyncio.sleep(0.002)
"""


def memory(process: ServerProcess) -> int:
    """Return the resident memory of a server in bytes."""
    lines = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    (resident,) = (line for line in lines if line.startswith("VmRSS"))
    return int(resident.split()[1]) * 1024


def sockets(process: ServerProcess) -> int:
    """Return the number of open files of a server."""
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))


class Honest:
    """A client that interrupts each answer after its first words."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._number = 0
        self.took_s: list[float] = []

    async def converse(self, seconds: float) -> None:
        """Ask and interrupt for some time."""
        ends = perf_counter() + seconds
        while perf_counter() < ends:
            self._number += 1
            await self._send(bp.InputText(id=bp.InputId(f"in_{self._number}"), text="hello"))
            await self._next(bp.TextDelta)
            asked = perf_counter()
            await self._send(bp.Interrupt(id=bp.InterruptId(f"x_{self._number}")))
            await self._next(bp.InterruptResult)
            self.took_s.append(perf_counter() - asked)
            await self._next(bp.TurnEnded)
            await asyncio.sleep(PAUSE_S)  # as people do; a client has a rate

    async def _send(self, event: bp.ClientEvent) -> None:
        await self._websocket.send(bp.JSON.encode(event), text=True)

    async def _next(self, kind: type[bp.ServerEvent]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not isinstance(bp.JSON.decode_server(await self._websocket.recv(decode=False)), kind):
                pass


@asynccontextmanager
async def honest_client(process: ServerProcess) -> AsyncIterator[Honest]:
    """Connect a client with a token."""
    async with connect(
        process.url,
        additional_headers={"Authorization": f"Bearer {HONEST}"},
        subprotocols=["bargein.v1.json"],  # type: ignore[list-item]
    ) as websocket:
        yield Honest(websocket)


@asynccontextmanager
async def attacking(name: str, process: ServerProcess) -> AsyncIterator[None]:
    """Run an attacker."""
    program = ROOT / "tests" / "support" / "attackers.py"
    attacker = await asyncio.create_subprocess_exec(
        sys.executable, program, name, str(process.port), env=environment()
    )
    try:
        yield
        assert attacker.returncode is None, "expected the attacker to live"
    finally:
        if attacker.returncode is None:
            attacker.kill()
        await attacker.wait()


def worst(times: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(times)[int(len(times) * 0.99)]


@pytest.mark.nightly
@pytest.mark.alone
@pytest.mark.needs("proc")
@pytest.mark.parametrize("name", ATTACKS)
async def test_an_honest_client_beside_an_attacker(name: str, tmp_path: Path) -> None:
    """Its interrupts are answered in time; memory is bounded; afterwards nothing is left."""
    (tmp_path / "agents.py").write_text(AGENT)
    (tmp_path / "tokens").write_text(f"honest {HONEST}\nattacker {TOKEN}\n")
    async with (
        server("agents:agent", tmp_path, "--tokens", "tokens", "--log-level", "error") as process,
        honest_client(process) as honest,
    ):
        await honest.converse(WARM_UP_S)
        before, files, calm_s = memory(process), sockets(process), worst(honest.took_s)
        honest.took_s.clear()
        async with attacking(name, process):
            await honest.converse(ATTACK_S)
            grown = memory(process) - before
        attacked_s = worst(honest.took_s)
        await until(lambda: sockets(process) <= files + 2, "the end of the attacker's connections")
        print(
            f"\n{name}: {attacked_s * 1000:.1f} ms, {attacked_s / calm_s:.1f} times; "
            f"{len(honest.took_s)} interrupts; "
            f"{grown / 2**20:.0f} MiB, {(memory(process) - before) / 2**20:.0f} MiB after"
        )
        assert attacked_s <= MOST_S
        assert attacked_s <= max(MOST_TIMES * calm_s, NOISE_S)
        assert grown <= BUDGET
