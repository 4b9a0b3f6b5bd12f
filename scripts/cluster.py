"""Start servers that share a Valkey, and a balancer before them.

    scripts/cluster [--nodes N] [--port PORT] [--store URL] [server's arguments …]

Each connection to the balancer goes to the next server. Servers that end are started again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from itertools import count
from pathlib import Path

from valkey_process import valkey

RESTART_S = 1.0
"""Time after which a server that ended is started again."""

SPLIT_BYTES = 64 * 1024


class NotStarted(Exception):
    """A server ended before it listened."""


class Node:
    """One server, started again whenever it ends.

    Args:
        number: Its number.
        port: Its port.
        store: URL of the store.
        options: Other arguments of `bargein-server`.

    Attributes:
        up: Set while it listens.
    """

    def __init__(self, number: int, port: int, store: str, options: Sequence[str]) -> None:
        self.number, self.port = number, port
        self.up = asyncio.Event()
        self._environment = {**os.environ, "BARGEIN_STORE": store}
        self._command = (sys.executable, "-m", "bargein_server", "--port", str(port), *options)

    async def run(self) -> None:
        """Run it until this is cancelled; its process gets SIGTERM then."""
        started = False
        while True:
            process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=asyncio.subprocess.PIPE
            )
            try:
                assert process.stdout is not None
                while line := await process.stdout.readline():
                    if b" at ws://" in line:
                        started = True
                        self.up.set()
                        print(f"node {self.number}: http://localhost:{self.port}/ (process {process.pid})")
                await process.wait()
            finally:
                self.up.clear()
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    await process.wait()
            if not started:
                raise NotStarted(f"node {self.number} does not start: see its message above")
            print(f"node {self.number} has ended; it starts again")
            await asyncio.sleep(RESTART_S)


class Balancer:
    """Passes each connection on to the next server that accepts it.

    Args:
        nodes: The servers.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._next = count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until either side ends it."""
        for _ in self._nodes:
            node = self._nodes[next(self._next) % len(self._nodes)]
            with suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", node.port)
                break
        else:
            writer.close()
            return
        ways = [asyncio.create_task(_pass(reader, there[1])), asyncio.create_task(_pass(there[0], writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, there[1]):
                end.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(SPLIT_BYTES):
            writer.write(data)
            await writer.drain()


def _free_ports(number: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(number)]
    for each in with_ports:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports


async def run(given: argparse.Namespace, options: Sequence[str]) -> None:
    """Run everything until this is cancelled."""
    async with AsyncExitStack() as stack:
        store = given.store
        if store is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bargein-cluster-"))
            store = (await stack.enter_async_context(valkey(Path(folder)))).url
        first, ports = given.port, [given.port + 1 + number for number in range(given.nodes)]
        if not first:
            first, *ports = _free_ports(given.nodes + 1)
        nodes = [Node(number + 1, port, store, options) for number, port in enumerate(ports)]
        balancer = await asyncio.start_server(Balancer(nodes).serve, "127.0.0.1", first)
        async with balancer, asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(node.run())
            for node in nodes:
                await node.up.wait()
            print(f"store: {store if given.store is None else 'as given'}")
            print(f"all nodes: http://localhost:{first}/ (each connection goes to the next one)")
            print("Talk there, and end a node with kill -9: the conversation goes on. Ctrl-C ends all.")
            sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="scripts/cluster",
        description="Start servers that share a Valkey, and a balancer before them.",
        epilog="Other arguments go to bargein-server, such as --agent model --model …",
    )
    parser.add_argument("--nodes", type=int, default=2, help="number of servers (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="port of the balancer; servers have the next ones",
    )
    parser.add_argument("--store", metavar="URL", help="the store; without one a Valkey is started")
    given, options = parser.parse_known_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    async def until_stopped() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):
            await run(given, options)

    failed = False
    try:
        asyncio.run(until_stopped())
    except* NotStarted as errors:
        print(errors.exceptions[0], file=sys.stderr)
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
