"""Compare two workers with one, under more load than a core carries.

    .venv/bin/python scripts/measure_workers.py --rounds 5 --seconds 6

Each round measures both, in alternating order. Two generators read the tokens of all sessions and count them
by their bytes, which costs a tenth of making them. They share the cores with the server, so the throughput of
two workers is bounded by what the generators leave; tokens per second of the server's own CPU time are not.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

HERE = Path(__file__).parent
HANDSHAKE = (
    b"GET /v1/session HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TOKEN = b'"text.delta"'
GENERATORS = 2
WARM_S = 1.0
GATHER_S = 0.03
"""Time that the kernel gathers tokens, so that reading takes little from the server's cores."""


class Load(Struct, frozen=True):
    """Load of one generator.

    Args:
        port: The server's port.
        sessions: Sessions of this generator.
        rate: Tokens per second of each session.
        seconds: Time of the measurement, after a warm-up.
        pid: The server's process.
    """

    port: int
    sessions: int
    rate: int
    seconds: float
    pid: int


class Found(Struct, frozen=True):
    """Result of one generator.

    Args:
        tokens: Tokens that it has read.
        seconds: Time of the measurement.
        cpu_s: CPU time of the server's processes meanwhile.
    """

    tokens: int
    seconds: float
    cpu_s: float


def frame(text: str) -> bytes:
    """Return a masked text frame below 126 bytes (RFC 6455 section 5.2)."""
    data = text.encode()
    return bytes([0x81, 0x80 | len(data)]) + bytes(4) + data


def generate(load: Load) -> Found:
    """Ask for an endless turn in each session, and count tokens for a time."""
    asked = json.dumps({"type": "input.text", "id": "i", "text": f"1000000 tokens at {load.rate}/s"})
    found = selectors.DefaultSelector()
    for _ in range(load.sessions):
        sock = socket.create_connection(("127.0.0.1", load.port))
        sock.sendall(HANDSHAKE)
        while b"\r\n\r\n" not in sock.recv(4096):
            pass
        sock.sendall(frame(asked))
        sock.setblocking(False)
        found.register(sock, selectors.EVENT_READ)
    _read_until(found, time.perf_counter() + WARM_S)
    began, before = time.perf_counter(), cpu_s(load.pid)
    tokens = _read_until(found, began + load.seconds)
    return Found(tokens, time.perf_counter() - began, cpu_s(load.pid) - before)


def _read_until(found: selectors.DefaultSelector, end: float) -> int:
    tokens = 0
    while (left := end - time.perf_counter()) > 0:
        for key, _ in found.select(left):
            assert isinstance(key.fileobj, socket.socket)
            tokens += key.fileobj.recv(1 << 18).count(TOKEN)
        time.sleep(GATHER_S)
    return tokens


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and its children, in seconds."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0.0
    for each in (str(pid), *children):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(") ")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(workers: int, sessions: int, rate: int, seconds: float) -> dict[str, float]:
    """Return tokens per second, and per second of the server's CPU time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "bargein_server", "loadgen.agent:agent", "--port", str(port), "--workers",
         str(workers), "--store", "none", "--drain-s", "0"],
        cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        server.stdout.readline()
        for _ in range(workers if workers > 1 else 0):
            server.stderr.readline()  # each reports that it serves
        load = Load(port, sessions // GENERATORS, rate, seconds, server.pid)
        command = [sys.executable, __file__, "--load", msgspec.json.encode(load).decode()]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(GENERATORS)]
        found = [msgspec.json.decode(each.communicate()[0], type=Found) for each in running]
        tokens_per_s = sum(each.tokens / each.seconds for each in found)
        cpus = statistics.mean(each.cpu_s / each.seconds for each in found)
        return {"tokens_per_s": tokens_per_s, "tokens_per_cpu_s": tokens_per_s / cpus, "cpus": cpus}
    finally:
        server.kill() if workers == 1 else server.terminate()
        server.communicate()


def _line(found: dict[str, Any]) -> str:
    per_s, per_cpu_s, cpus = (found[name] for name in ("tokens_per_s", "tokens_per_cpu_s", "cpus"))
    return f"workers: {per_s:,.0f} tokens/s on {cpus:.2f} cores, {per_cpu_s:,.0f} a CPU-second"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--sessions", type=int, default=400)
    parser.add_argument("--rate", type=int, default=300, help="tokens per second of each session")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.load is not None:
        print(msgspec.json.encode(generate(msgspec.json.decode(options.load, type=Load))).decode())
        return 0
    ratios: dict[str, list[float]] = {"tokens_per_s": [], "tokens_per_cpu_s": []}
    for number in range(options.rounds):
        order = (1, 2) if number % 2 else (2, 1)
        found: dict[int, dict[str, Any]] = {
            workers: measure(workers, options.sessions, options.rate, options.seconds) for workers in order
        }
        for name, values in ratios.items():
            values.append(found[2][name] / found[1][name])
        print(" · ".join(f"{workers} {_line(found[workers])}" for workers in (1, 2)))
    for name, values in ratios.items():
        print(f"two workers to one, {name}: median {statistics.median(values):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
