"""Times an interrupt and counts tokens, against a floor that is measured in the same run.

    .venv/bin/python scripts/benchmark.py [--rounds 5]

The floor is a bare uvicorn application that sends one prepared frame and knows no session, no turn
and no fence: its round trip is what the line itself costs. Server and load run on a core each where
the system lets them. Rounds alternate between the servers; the figures are medians of rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Any

import uvicorn

from bargein_server import Output, Settings, Turn, create_app
from bargein_server.shell.listener import listening_socket
from bargein_server.shell.server import uvicorn_config

TOKEN = "word " * 12
FRAME = '{"type":"text.delta","seq":100000,"turn_id":"t_8432156e_1","text":"' + TOKEN + '"}'
FLAT_OUT_TOKENS = 200_000
INTERRUPTS = 200


# --- the servers ---------------------------------------------------------------------------------


async def floor(scope: Any, receive: Any, send: Any) -> None:
    """Answer `echo` with a frame, and `flat N` with N of them and the processor time that they took."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        command, _, count = message["text"].partition(" ")
        started = time.process_time()
        for n in range(int(count or 1)):
            await send({"type": "websocket.send", "text": FRAME})
            if n % 32 == 31:
                await asyncio.sleep(0)
        if command == "flat":
            seconds = time.process_time() - started
            await send({"type": "websocket.send", "text": f"took {seconds:.6f} s"})


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Yield `flat N` tokens without suspending, `endless` many, or one every 20 ms."""
    command, _, count = turn.text.partition(" ")
    if command == "flat":
        started = time.process_time()
        for _ in range(int(count)):
            yield TOKEN
        yield f"took {time.process_time() - started:.6f} s"
    while True:
        yield TOKEN
        if command != "endless":
            await asyncio.sleep(0.02)


def serve(which: str, port: int) -> None:
    """Run one of the servers until it is terminated."""
    pin(0)
    if which == "floor":
        uvicorn.run(floor, port=port, log_level="warning", ws_per_message_deflate=False, lifespan="off")
    else:
        # The load is one client that never pauses.
        limits = Settings(messages_per_s=10**6, metrics=which == "watched")
        config = uvicorn_config(create_app(agent, limits), limits, "127.0.0.1", port, "warning")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listening_socket("127.0.0.1", port, limits.stalled_s)])


# --- the load ------------------------------------------------------------------------------------


class Client:
    """A WebSocket in as few steps as possible, so that the load costs little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = b""

    @classmethod
    async def connect(cls, port: int, path: str) -> Client:
        """Do the handshake."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        return cls(reader, writer)

    def send(self, text: str) -> None:
        """Send a short text frame, masked with zeros."""
        payload = text.encode()
        assert len(payload) < 126
        self._writer.write(bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    async def until(self, marker: bytes, after: int = 0) -> bytes:
        """Read until a marker and `after` more bytes have come; returns those."""
        while True:
            found = self._buffer.find(marker)
            end = found + len(marker) + after
            if found >= 0 and len(self._buffer) >= end:
                result, self._buffer = self._buffer[end - after : end], self._buffer[end:]
                return result
            data = await self._reader.read(2**18)
            if not data:
                raise ConnectionError("the server closed")
            keep = self._buffer if found >= 0 else self._buffer[-len(marker) :]
            self._buffer = keep + data

    def close(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()


async def flat_out(client: Client, command: str) -> float:
    """Return tokens per second of the server's processor."""
    client.send(command)
    seconds = float(await client.until(b"took ", 8))
    return FLAT_OUT_TOKENS / seconds


async def round_trips(client: Client) -> list[float]:
    """Return the seconds of many bare round trips."""
    times = []
    for _ in range(INTERRUPTS):
        started = time.perf_counter()
        client.send("echo")
        await client.until(b'"}')
        times.append(time.perf_counter() - started)
    return times


async def interrupts(client: Client, text: str, name: str) -> list[float]:
    """Return the seconds from many interrupts to their `turn.ended`."""
    times = []
    for n in range(INTERRUPTS):
        client.send(json.dumps({"type": "input.text", "id": f"{name}{n}", "text": text}))
        await client.until(b'"text.delta"')
        started = time.perf_counter()
        client.send(json.dumps({"type": "interrupt", "id": f"x{name}{n}", "input_id": f"{name}{n}"}))
        await client.until(b'"turn.ended"')
        times.append(time.perf_counter() - started)
    return times


async def measure(ports: dict[str, int], rounds: int) -> dict[str, list[float]]:
    """Run the rounds; returns the figures of each round by name."""
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    def note_times(name: str, times: list[float]) -> None:
        note(f"{name} p50", statistics.median(times) * 1000)
        note(f"{name} p99", sorted(times)[int(len(times) * 0.99)] * 1000)

    for n in range(rounds):
        client = await Client.connect(ports["floor"], "/")
        note_times("floor", await round_trips(client))
        note("floor tokens", await flat_out(client, f"flat {FLAT_OUT_TOKENS}"))
        client.close()
        for which, suffix in (("bargein", ""), ("watched", " watched")):
            client = await Client.connect(ports[which], "/v1/session")
            note_times("trickle" + suffix, await interrupts(client, "trickle", f"t{n}"))
            note_times("flat out" + suffix, await interrupts(client, "endless", f"e{n}"))
            ask = {"type": "input.text", "id": f"f{n}", "text": f"flat {FLAT_OUT_TOKENS}"}
            note("tokens" + suffix, await flat_out(client, json.dumps(ask)))
            client.close()
    return figures


def report(figures: dict[str, list[float]]) -> str:
    """Return the table."""
    middle = {name: statistics.median(values) for name, values in figures.items()}
    noise = max((max(v) - min(v)) / statistics.median(v) for name, v in figures.items() if "p99" not in name)
    rows = [
        ("bare round trip, p50 / p99 ms", "floor p50", "floor p99", None),
        ("interrupt → turn.ended, 50 tokens/s, p50 / p99 ms", "trickle p50", "trickle p99", "floor p50"),
        ("the same with metrics", "trickle watched p50", "trickle watched p99", "floor p50"),
        ("interrupt → turn.ended, flat out, p50 / p99 ms", "flat out p50", "flat out p99", "floor p50"),
        ("the same with metrics", "flat out watched p50", "flat out watched p99", "floor p50"),
    ]
    lines = ["| what | figure | ratio to the floor |", "|---|---|---|"]
    for title, p50, p99, base in rows:
        ratio = f"{middle[p50] / middle[base]:.2f}" if base else "1"
        lines.append(f"| {title} | {middle[p50]:.2f} / {middle[p99]:.2f} | {ratio} |")
    for title, name in (
        ("tokens per CPU second, flat out, 1 session", "tokens"),
        ("the same with metrics", "tokens watched"),
    ):
        ratio = f"{middle[name] / middle['floor tokens']:.2f}"
        lines.append(f"| {title} | {middle[name]:,.0f} | {ratio} |")
    versions = f"Python {platform.python_version()}, uvicorn {uvicorn.__version__}"
    lines.append(f"\n{os.cpu_count()} cores, {versions}; rounds differ by up to {noise:.0%}")
    return "\n".join(lines)


def pin(core: int) -> None:
    """Run on one core, where the system can do that and has two."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})


async def listening(port: int) -> None:
    """Wait until a server accepts connections."""
    async with asyncio.timeout(30):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


async def run(ports: dict[str, int], rounds: int) -> str:
    """Measure servers that are being started, and return the table."""
    for port in ports.values():
        await listening(port)
    return report(await measure(ports, rounds))


def run_against_servers(rounds: int) -> str:
    """Start the servers, measure, and stop them."""
    ports = {"floor": 8931, "bargein": 8932, "watched": 8933}
    with ExitStack() as stack:
        for which, port in ports.items():
            process = subprocess.Popen([sys.executable, __file__, "--serve", which, "--port", str(port)])
            stack.callback(process.wait)
            stack.callback(process.terminate)
        pin(1)
        return asyncio.run(run(ports, rounds))


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=("floor", "bargein", "watched"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
    else:
        print(run_against_servers(options.rounds))


if __name__ == "__main__":
    main()
