"""Machines: network namespaces on one bridge, between which ways can be cut.

What is sent on a way that is cut gets lost without an error, as when a switch fails. The namespaces end with
their processes. `scripts/chaos` runs itself in a namespace for that (`in_private_network`): it needs root.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from secrets import token_hex

from msgspec import Struct

from processes import Machine
from waiting import WAIT_S

USERS = "10.77.0.1"
"""Address of the users, who are in the namespace of the bridge."""

BRIDGE = "hub"
NOBODY = "02:00:00:00:00:01"
"""Hardware address that no machine has."""

_PRIVATE = "CHAOS_PRIVATE_NETWORK"


class Place(Struct, frozen=True):
    """One end of a way.

    Args:
        machine: How to run something there.
        device: Its network device.
    """

    machine: Machine
    device: str


HUB = Place(Machine(USERS), BRIDGE)


def in_private_network(arguments: Sequence[str]) -> None:
    """Go on in a network namespace that nothing else uses; returns there.

    Raises:
        OSError: The program `unshare` is missing.
    """
    if _PRIVATE not in os.environ:
        os.environ[_PRIVATE] = "1"
        os.environ["BARGEIN_PEER_SECRET"] = token_hex()
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", "chaos", *arguments])


class Network:
    """The machines and the ways between them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._numbers = count(11)

    async def machine(self) -> Place:
        """Return a new machine."""
        number = next(self._numbers)
        holder = await self._stack.enter_async_context(_holder())
        link, host = f"m{number}", f"10.77.0.{number}"
        enter = ("nsenter", "--target", str(holder.pid), "--net")
        await _run(
            "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)
        )
        await _run("ip", "link", "set", link, "master", BRIDGE, "up")
        await _run(*enter, "ip", "address", "add", f"{host}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            await _run(*enter, "ip", "link", "set", device, "up")
        return Place(Machine(host, enter), "eth0")

    async def cut(self, one: Place, two: Place) -> None:
        """Let nothing arrive between two machines."""
        for here, there in ((one, two), (two, one)):
            way = (there.machine.host, "lladdr", NOBODY, "dev", here.device, "nud", "permanent")
            await _run(*here.machine.enter, "ip", "neighbour", "replace", *way)

    async def heal(self, one: Place, two: Place) -> None:
        """Let everything arrive again."""
        for here, there in ((one, two), (two, one)):
            way = (there.machine.host, "dev", here.device)
            await _run(*here.machine.enter, "ip", "neighbour", "delete", *way)


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """Make the bridge; machines last until the block ends."""
    await _run("ip", "link", "set", "lo", "up")
    await _run("ip", "link", "add", BRIDGE, "type", "bridge")
    await _run("ip", "address", "add", f"{USERS}/24", "dev", BRIDGE)
    await _run("ip", "link", "set", BRIDGE, "up")
    async with AsyncExitStack() as stack:
        yield Network(stack)


@asynccontextmanager
async def _holder() -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process that holds a namespace."""
    process = await asyncio.create_subprocess_exec("unshare", "--net", "sleep", "infinity")
    try:
        own = await asyncio.to_thread(os.readlink, "/proc/self/ns/net")
        async with asyncio.timeout(WAIT_S):
            while await asyncio.to_thread(os.readlink, Path(f"/proc/{process.pid}/ns/net")) == own:
                await asyncio.sleep(0.01)
        yield process
    finally:
        process.kill()
        await process.wait()


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, error = await process.communicate()
    assert not process.returncode, f"{' '.join(command)}: {error.decode().strip()}"
