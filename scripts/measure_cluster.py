"""Measure a pipe between two servers, and takeovers of a lost one.

    .venv/bin/python scripts/measure_cluster.py

The store is a Valkey on the loopback, with an append-only file. Servers, store and clients share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from measure_workers import HANDSHAKE, frame

HERE = Path(__file__).parent
SESSION = re.compile(rb'"session_id":"([^"]+)","token":"([^"]+)","epoch":"([^"]+)"')
SEQ = re.compile(rb'"seq":(\d+)')
COME_AGAIN = re.compile(rb"\x88.\x03[\xf4\xf5]", re.DOTALL)  # a close frame with 1012 or 1013
PEER_SECRET = "measured on the loopback"


def quantiles(times: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    found = sorted(times)
    return found[len(found) // 2] * 1000, found[min(len(found) - 1, len(found) * 99 // 100)] * 1000


# --- the load -----------------------------------------------------------------------------------------


class Client:
    """One session over a plain socket.

    Args:
        port: The server's port.
        resume: The session to resume; None for a fresh one.
    """

    def __init__(self, port: int, resume: dict[str, Any] | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(HANDSHAKE)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(4096)
        self._asked = 0
        self.asked_at = 0.0
        self.send({"type": "session.open", **({"resume": resume} if resume else {})})

    def send(self, event: dict[str, Any]) -> None:
        """Send an event."""
        text = json.dumps(event)
        data = text.encode()
        if len(data) < 126:
            self.sock.sendall(frame(text))
        else:
            self.sock.sendall(bytes([0x81, 0xFE]) + len(data).to_bytes(2, "big") + bytes(4) + data)

    def ask(self, rate: int = 50) -> None:
        """Ask for an endless turn."""
        self._asked += 1
        self.send({"type": "input.text", "id": f"i{self._asked}", "text": f"1000000 tokens at {rate}/s"})

    def interrupt(self) -> None:
        """Interrupt it."""
        self.asked_at = perf_counter()
        self.send({"type": "interrupt", "id": f"x{self._asked}", "input_id": f"i{self._asked}"})

    def until(self, *signs: bytes) -> bytes:
        """Read until all signs have come."""
        data = b""
        while not all(sign in data for sign in signs):
            part = self.sock.recv(1 << 16)
            if not part:
                raise ConnectionResetError
            data += part
        return data


# --- servers ------------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


class Server:
    """One server with the agent of `loadgen.agent`."""

    def __init__(self, store: str, *options: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bargein_server", "loadgen.agent:agent", "--port", str(self.port),
             "--drain-s", "0", "--max-client-share", "1", "--max-requests-per-s", "10000",
             "--max-connections-per-address", "5000", *options],
            cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "BARGEIN_STORE": store, "BARGEIN_PEER_SECRET": PEER_SECRET},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def valkey_store() -> AsyncIterator[str]:
    """Run a Valkey; return its URL."""
    sys.path.insert(0, str(HERE.parent / "tests" / "support"))
    from valkey_process import valkey

    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        process = await stack.enter_async_context(valkey(Path(folder)))
        await asyncio.sleep(1.1)  # no longer young
        yield process.url


# --- measurements -------------------------------------------------------------------------------------


def measure_pipe(store: str, given: argparse.Namespace) -> None:
    """Compare interrupts at the owner and through another server."""
    servers = [Server(store, "--peer", f"127.0.0.1:{free_port()}") for _ in range(2)]
    try:
        direct, owned = Client(servers[0].port), Client(servers[0].port)
        for client in (direct, owned):
            opened = client.until(b"session.opened")
            client.ask(20)
            opened += client.until(b"text.delta")
        found = SESSION.search(opened)
        assert found is not None
        session_id, token, epoch = (each.decode() for each in found.groups())
        cursor = {"epoch": epoch, "seq": int(SEQ.findall(opened)[-1])}
        resume = {"session_id": session_id, "token": token, "cursor": cursor}
        piped = Client(servers[1].port, resume)
        piped._asked = 1
        piped.until(b"replay.done")
        times: dict[str, list[float]] = {"direct": [], "piped": []}
        for number in range(given.interrupts):
            for name, client in (("direct", direct), ("piped", piped))[:: 1 if number % 2 else -1]:
                client.interrupt()
                client.until(b"turn.ended")
                times[name].append(perf_counter() - client.asked_at)
                client.ask(20)
                client.until(b"text.delta")
        p50 = {name: quantiles(each)[0] for name, each in times.items()}
        print(
            f"pipe: interrupt p50 direct {p50['direct']:.2f} ms, through another server "
            f"{p50['piped']:.2f} ms: "
            f"{p50['piped'] - p50['direct']:+.2f} ms; p99 {quantiles(times['direct'])[1]:.2f} and "
            f"{quantiles(times['piped'])[1]:.2f} ms"
        )
    finally:
        for server in servers:
            server.end()


def measure_takeover(store: str, given: argparse.Namespace, how: signal.Signals) -> None:
    """Let a server die or stand still, and wait for its turns' ends elsewhere."""
    servers = [Server(store, "--lease-s", str(given.lease_s)) for _ in range(2)]
    times: list[float] = []
    try:
        clients = [Client(servers[0].port) for _ in range(given.clients)]
        resumes = []
        for client in clients:
            opened = client.until(b"session.opened")
            client.ask()
            opened += client.until(b"text.delta")
            found = SESSION.search(opened)
            assert found is not None
            session_id, token, epoch = (each.decode() for each in found.groups())
            cursor = {"epoch": epoch, "seq": int(SEQ.findall(opened)[-1])}
            resumes.append({"session_id": session_id, "token": token, "cursor": cursor})
        time.sleep(0.5)
        servers[0].process.send_signal(how)
        began = perf_counter()
        waiting = selectors.DefaultSelector()

        def come(resume: dict[str, Any]) -> None:
            client = Client(servers[1].port, resume)
            client.sock.setblocking(False)
            waiting.register(client.sock, selectors.EVENT_READ, [resume, b""])

        for resume in resumes:
            come(resume)
        while waiting.get_map():
            for key, _ in waiting.select(1.0):
                assert isinstance(key.fileobj, socket.socket)
                part = key.fileobj.recv(1 << 16)
                key.data[1] += part
                if b'"node_lost"' in key.data[1]:
                    times.append(perf_counter() - began)
                    waiting.unregister(key.fileobj)
                elif not part or COME_AGAIN.search(part):
                    waiting.unregister(key.fileobj)
                    come(key.data[0])
        p50, p99 = quantiles(times)
        name = "kill -9" if how is signal.SIGKILL else "stand still"
        print(f"takeover: {name}, lease {given.lease_s} s, {given.clients} clients: p50 {p50:.0f} ms, "
              f"p99 {p99:.0f} ms")  # fmt: skip
    finally:
        for server in servers:
            server.process.send_signal(signal.SIGCONT)
            server.end()


async def measure(given: argparse.Namespace) -> None:
    """Measure the chosen parts."""
    async with valkey_store() as store:
        if given.what in ("all", "pipe"):
            await asyncio.to_thread(measure_pipe, store, given)
        if given.what in ("all", "takeover"):
            for how in (signal.SIGKILL, signal.SIGSTOP):
                await asyncio.to_thread(measure_takeover, store, given, how)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "what", nargs="?", choices=("all", "store", "pipe", "takeover", "load"), default="all"
    )
    parser.add_argument("--interrupts", type=int, default=300)
    parser.add_argument("--clients", type=int, default=100, help="clients of a takeover")
    parser.add_argument("--lease-s", type=float, default=6.0)
    given = parser.parse_args(arguments)
    asyncio.run(measure(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
