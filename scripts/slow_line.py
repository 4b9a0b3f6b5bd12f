"""Stale output after an interrupt on a saturated line of 1 Mbit/s.

    sudo .venv/bin/python scripts/slow_line.py [--rounds 5] [--json] [server options …]

Server and client run in separate network namespaces, joined by a pair of virtual interfaces; the server's
interface sends 1 Mbit/s through a queue of 32 KiB (tc-tbf(8)). The agent never waits. The client lets the
line fill for a second and interrupts; the duration is from that moment to the last frame of output.
Needs Linux, root, `ip` and `tc`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from websockets.asyncio.client import connect

AGENT = """
async def flood(turn):
    while True:
        yield "forty characters of text in every piece "
"""
SERVER, CLIENT, PORT = "10.77.0.1", "10.77.0.2", 8000
FILL_S = 1.0
VARIANTS = {"default": [], "max_in_flight_bytes = 8192": ["--max-in-flight-bytes", "8192"]}


class Round(NamedTuple):
    """Figures of one interrupt.

    Args:
        stale_s: From the interrupt to the last frame of output, in seconds; 0 when none came.
        stale_bytes: The output that came in that time.
        answer_s: From the interrupt to its answer, `interrupt.result`.
        after: Frames of the turn that came after its `turn.ended`.
        rate: What the line carried before, in bit/s.
    """

    stale_s: float
    stale_bytes: int
    answer_s: float
    after: int
    rate: float


# --- the client, in its namespace --------------------------------------------------------------------


async def play(rounds: int) -> list[Round]:
    """Interrupt the turns of one session."""
    seen = []
    url = f"ws://{SERVER}:{PORT}/v1/session"
    async with connect(url, compression=None, proxy=None, max_queue=None) as socket:
        for number in range(rounds):
            await socket.send(json.dumps({"type": "input.text", "id": f"i{number}", "text": "go"}))
            seen.append(await _interrupt(socket, f"i{number}", f"x{number}"))
    return seen


async def _interrupt(socket: Any, input_id: str, interrupt_id: str) -> Round:
    taken = 0
    began = time.perf_counter()
    while time.perf_counter() - began < FILL_S:
        taken += len(await socket.recv(decode=False))
    await socket.send(json.dumps({"type": "interrupt", "id": interrupt_id, "input_id": input_id}))
    sent = last = time.perf_counter()
    answered, stale, after = sent, 0, 0
    while (kind := json.loads(frame := await socket.recv(decode=False))["type"]) != "turn.ended":
        if kind == "text.delta":
            last, stale = time.perf_counter(), stale + len(frame)
        elif kind == "interrupt.result":
            answered = time.perf_counter()
    try:
        async with asyncio.timeout(0.5):
            while True:
                after += json.loads(await socket.recv(decode=False))["type"] == "text.delta"
    except TimeoutError:
        return Round(last - sent, stale, answered - sent, after, taken * 8 / (sent - began))


# --- the line ----------------------------------------------------------------------------------------


@contextmanager
def line() -> Iterator[tuple[str, str]]:
    """Create two namespaces joined by a slow line; yield their names."""
    names = f"bargein-{os.getpid()}-s", f"bargein-{os.getpid()}-c"
    server, client = names
    try:
        for name in names:
            _run("ip", "netns", "add", name)
        _run("ip", "link", "add", "near", "netns", server, "type", "veth", "peer", "far", "netns", client)
        for name, device, address in ((server, "near", SERVER), (client, "far", CLIENT)):
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", device)
            _run("ip", "-n", name, "link", "set", device, "up")
        tbf = ("tbf", "rate", "1mbit", "burst", "4kb", "limit", "32kb")
        _run("tc", "-n", server, "qdisc", "add", "dev", "near", "root", *tbf)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"slow_line: {' '.join(command)}: {done.stderr.strip()}")


def measure(names: tuple[str, str], rounds: int, options: list[str]) -> list[Round]:
    """Start a server with these options and interrupt turns."""
    server, client = names
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "agents.py").write_text(AGENT)
        here = [sys.executable, "-m", "bargein_server", "agents:flood", "--host", SERVER]
        serve = ["ip", "netns", "exec", server, *here, "--port", str(PORT), "--insecure", *options]
        process = subprocess.Popen(serve, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            play = [sys.executable, __file__, "--play", "--rounds", str(rounds)]
            done = subprocess.run(
                ["ip", "netns", "exec", client, *play],
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            )
        finally:
            process.terminate()
            process.wait()
    return [Round(*row) for row in json.loads(done.stdout)]


def main() -> None:
    """Measure each variant and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interrupts of each variant (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print every round")
    parser.add_argument("--play", action="store_true", help=argparse.SUPPRESS)
    options, for_server = parser.parse_known_args()
    if options.play:
        print(json.dumps(asyncio.run(play(options.rounds))))
        return
    variants = {"given": for_server} if for_server else VARIANTS
    with line() as names:
        results = {name: measure(names, options.rounds, given) for name, given in variants.items()}
    if options.json:
        print(json.dumps({name: [seen._asdict() for seen in rounds] for name, rounds in results.items()}))
        return
    for name, rounds in results.items():
        worst = max(seen.stale_s for seen in rounds)
        after = sum(seen.after for seen in rounds)
        print(
            f"{name}: last stale byte after {_median(rounds, 'stale_s'):.2f} s (at most {worst:.2f}), "
            f"{_median(rounds, 'stale_bytes') / 1024:.0f} KiB stale; answer after "
            f"{_median(rounds, 'answer_s'):.2f} s; {after} frames after the end; "
            f"{_median(rounds, 'rate') / 1000:.0f} kbit/s of events"
        )


def _median(rounds: list[Round], field: str) -> float:
    values: list[float] = [getattr(seen, field) for seen in rounds]
    return statistics.median(values)


if __name__ == "__main__":
    main()
