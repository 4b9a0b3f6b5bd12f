"""Cost of a client that stalls in the middle of an answer.

    .venv/bin/python scripts/stalled_client.py [--clients 16] [--json] [server options …]

The agent never waits. A process with all clients is stopped (SIGSTOP): it neither reads nor closes, and its
kernel still acknowledges probes. The figures are the server's resident memory and the kernel's queues, per
connection, until the server has dropped all connections. Then the process continues (SIGCONT), and each
client resumes its session and interrupts its turn. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bargein_client import Backoff, connect
from bargein_client.session import ClientSession

AGENT = """
async def flood(turn):
    while True:
        yield "forty characters of text in every piece "
"""
ESTABLISHED = "01"
PATIENCE_S = 60.0


# --- the clients, in a process that is stopped -------------------------------------------------------


async def play(url: str, clients: int) -> None:
    """Read endless answers, interrupt them, and print the number of results."""
    async with asyncio.timeout(3 * PATIENCE_S):
        print(sum(await asyncio.gather(*(_one(url) for _ in range(clients)))), flush=True)


async def _one(url: str) -> bool:
    backoff = Backoff(base_s=0.05, cap_s=0.2)
    async with connect(url, backoff=backoff) as session:
        turn = await session.send("go")
        while len(turn.text) < 10_000:
            await asyncio.sleep(0.01)
        print("reads", flush=True)
        await _resumed(session)
        return (await turn.interrupt()).outcome == "interrupted"


async def _resumed(session: ClientSession) -> None:
    while session.connected:
        await asyncio.sleep(0.01)
    while not session.connected:
        await asyncio.sleep(0.01)


# --- what the server holds ---------------------------------------------------------------------------


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def queued(port: int) -> list[int]:
    """Return the send queue of each connection of a port (proc_net_tcp(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[4].partition(":")[0], 16)
        for row in rows
        if row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED
    ]


def measure(clients: int, options: list[str]) -> dict[str, Any]:
    """Stop the clients and wait until the server has dropped them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "agents.py").write_text(AGENT)
        serve = [sys.executable, "-m", "bargein_server", "agents:flood", "--port", "0", *options]
        server = subprocess.Popen(serve, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1].replace("localhost", "127.0.0.1")
        program = [sys.executable, __file__, "--play", url, "--clients", str(clients)]
        reader = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        try:
            assert reader.stdout is not None
            for _ in range(clients):
                reader.stdout.readline()
            return {"clients": clients, **_stall(server.pid, reader, int(url.split(":")[2].split("/")[0]))}
        finally:
            reader.kill()
            server.terminate()
            reader.wait()
            server.wait()


def _stall(server: int, reader: subprocess.Popen[str], port: int) -> dict[str, Any]:
    before, most, kernel = resident(server), 0, 0
    clients = len(queued(port))
    os.kill(reader.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    while (waiting := queued(port)) and time.monotonic() - stopped < PATIENCE_S:
        most = max(most, resident(server) - before)
        kernel = max(kernel, sum(waiting))
        time.sleep(0.02)
    freed = time.monotonic() - stopped
    os.kill(reader.pid, signal.SIGCONT)
    assert reader.stdout is not None
    return {
        "freed_s": freed,
        "bytes": (most + kernel) / clients,
        "of_the_kernel": kernel / clients,
        "resumed": int(reader.stdout.readline()),
    }


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=16, help="connections (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--play", metavar="URL", help=argparse.SUPPRESS)
    options, for_server = parser.parse_known_args()
    if options.play:
        asyncio.run(play(options.play, options.clients))
        return
    seen = measure(options.clients, for_server)
    if options.json:
        print(json.dumps(seen))
        return
    print(
        f"{seen['clients']} clients stopped: all freed after {seen['freed_s']:.1f} s; each cost "
        f"{seen['bytes'] / 1024:.0f} KiB until then, {seen['of_the_kernel'] / 1024:.0f} KiB of them the "
        f"kernel's; {seen['resumed']} resumed and were answered"
    )


if __name__ == "__main__":
    main()
