"""Compare a server with a store with one that keeps nothing.

    .venv/bin/python scripts/measure_store.py --rounds 6 --seconds 6

Each round measures both, in alternating order: the server's CPU time for a token, and the time from an
interrupt to its result in a session beside those under load. A generator of its own reads the tokens.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from measure_workers import Found, Load, generate

HERE = Path(__file__).parent
GAP_S = 0.05


class Cost(Struct, frozen=True):
    """Cost of one server.

    Args:
        token_us: CPU time of the server for a token, in microseconds.
        interrupts_ms: Times from an interrupt to its result.
    """

    token_us: float
    interrupts_ms: list[float]


def _receive(client: Connection, kind: str) -> None:
    while json.loads(client.recv(timeout=10))["type"] != kind:
        pass


def interrupt(client: Connection, number: int) -> float:
    """Ask, wait for the first word, and interrupt; return the time in ms."""
    client.send(json.dumps({"type": "input.text", "id": f"i{number}", "text": "1000000 tokens at 50/s"}))
    _receive(client, "text.delta")
    client.send(json.dumps({"type": "interrupt", "id": f"x{number}", "input_id": f"i{number}"}))
    began = time.perf_counter()
    _receive(client, "interrupt.result")
    return (time.perf_counter() - began) * 1000


def measure(store: str, sessions: int, rate: int, seconds: float) -> Cost:
    """Start a server, load it, and return its cost."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "bargein_server", "loadgen.agent:agent", "--port", str(port), "--store", store,
         "--drain-s", "0"],
        cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        server.stdout.readline()
        load = Load(port, sessions, rate, seconds, server.pid)
        command = [sys.executable, __file__, "--load", msgspec.json.encode(load).decode()]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
            times: list[float] = []
            with connect(f"ws://127.0.0.1:{port}/v1/session", proxy=None, compression=None) as client:
                while running.poll() is None:
                    times.append(interrupt(client, len(times)))
                    time.sleep(GAP_S)
            assert running.stdout is not None
            found = msgspec.json.decode(running.stdout.read(), type=Found)
        return Cost(found.cpu_s / found.tokens * 1e6, times)
    finally:
        server.kill()
        server.communicate()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the ratio and the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--rate", type=int, default=50, help="tokens per second of each session")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.load is not None:
        print(msgspec.json.encode(generate(msgspec.json.decode(options.load, type=Load))).decode())
        return 0
    kinds: tuple[Literal["none", "sqlite"], ...] = ("none", "sqlite")
    costs: dict[str, list[Cost]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            urls = {"none": "none", "sqlite": f"sqlite:///{folder}/kept.db"}
            for kind in kinds if number % 2 else kinds[::-1]:
                cost = measure(urls[kind], options.sessions, options.rate, options.seconds)
                costs[kind].append(cost)
        print(" · ".join(f"{kind}: {costs[kind][-1].token_us:.1f} µs a token" for kind in kinds))
    ratios = [
        with_store.token_us / without.token_us
        for with_store, without in zip(costs["sqlite"], costs["none"], strict=True)
    ]
    print(f"CPU time per token with the store: {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
          f"{max(ratios):.2f}) of that without, {options.rounds} rounds")  # fmt: skip
    for kind in kinds:
        times = sorted(each for cost in costs[kind] for each in cost.interrupts_ms)
        print(f"interrupts, {kind}: median {statistics.median(times):.2f} ms, 95 % "
              f"{times[int(len(times) * 0.95)]:.2f} ms, {len(times)} of them")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
