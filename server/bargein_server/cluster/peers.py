"""Peers: the other processes of a server, and how to reach them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bargein_protocol import SessionId

from ..core.records import BadRecord
from ..hosting.keeper import Keeper
from ..hosting.membership import Membership
from ..stores.interface import StoreError
from .channel import Channel
from .letters import Answer, BadLetter, Kind, Locate, Request, answer_of, encoded
from .place import NAME_CHARS, OWN_PREFIX, Place, name_of, number_of
from .proof import NotProved, prove

ANSWER_S = 5.0
"""Time for an answer of another process; one that stands still for longer serves nobody."""

SILENT_S = 10.0
"""Time for which a process that did not answer is not asked again, where a store can decide instead."""

TCP = "tcp:"
"""Start of the name of a process on another machine; `HOST:PORT` follows."""

LOST = "lost:"
"""The same for one whose lease in the store is over. It may live, but a client does not wait for it."""

LOST_S = 0.5
"""Time for the connection to such a process, and for its answer."""

MAX_HOPS = 5
"""Processes that are asked for one session: each may have given it to the next."""


class Peers:
    """The other processes.

    Args:
        place: The place of this one.

    Attributes:
        place: The place of this one.
        secret: The secret of all machines.
        stored_owner: Returns the process that has a session according to the store, empty without one; None
            without a store.
        moved: Sessions that this process has given to another one, with the name of that.
        moving: Sessions that are on their way there.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.secret = b""
        self.stored_owner: Callable[[SessionId], Awaitable[str]] | None = None
        self.moved: dict[SessionId, str] = {}
        self.moving: dict[SessionId, asyncio.Future[None]] = {}
        self._silent: dict[str, float] = {}  # by name, until when

    def owner_of(self, session_id: SessionId) -> str:
        """Return the process to ask for a session; empty for this or an unknown."""
        owner = self.moved.get(session_id, "") or name_of(session_id)
        if not owner and (number := number_of(session_id, self.place.workers)) is not None:
            owner = self.place.name_at(number)
        return owner if owner != self.place.name else ""

    async def _stored_owner(self, session_id: SessionId) -> str:
        return await self.stored_owner(session_id) if self.stored_owner is not None else ""

    async def located(self, session_id: SessionId, here: bool) -> Answer:
        """Return whether this process owns a session, and the one to ask instead.

        A session by a client's own id may be new: it begins in the process that its id leads to, unless a
        process has it whose machine has another one of that number.

        Args:
            session_id: The session.
            here: Whether it is in the memory of this process.
        """
        if here or not session_id.startswith(OWN_PREFIX) or self.owner_of(session_id):
            return Answer(here, self.moved.get(session_id, ""))
        owner = await self._stored_owner(session_id)
        mine = owner in ("", self.place.name)
        return Answer(mine, "" if mine else owner)

    async def settled(self, session_id: SessionId) -> None:
        """Wait until a session that is on its way has arrived."""
        if (moving := self.moving.get(session_id)) is not None:
            await asyncio.wait([moving])

    async def owners(self, session_id: SessionId) -> AsyncGenerator[tuple[Channel, list[str]], None]:
        """Yield channels to possible owners of a session, and a list for hints.

        First the one that the id names, then those that have been given it, last the one that has it in the
        store. Channels are closed, unless they were detached.

        Raises:
            OSError: One cannot be reached.
            TimeoutError: One stands still.
        """
        await self.settled(session_id)
        names = [self.owner_of(session_id)]
        if names == [""] and session_id.startswith(OWN_PREFIX) and self.place.is_crowded:
            names = self.place.names()  # a worker that ends may still have it
        asked: set[str] = set()
        while len(asked) < MAX_HOPS:
            if not names:
                names.append(await self._stored_owner(session_id))
            name = names.pop()
            if name in asked:
                return
            asked.add(name)
            if self._is_silent(name):
                continue
            channel = None
            with self._noting_silence(name):
                channel = await self.dial(name)
            if channel is not None:
                try:
                    yield channel, names
                finally:
                    channel.close()

    async def ask(
        self, channel: Channel, request: Request, descriptors: tuple[int, ...] = (), came_at: float = 0.0
    ) -> Answer:
        """Return the answer of a possible owner; as `ask`, also in its errors."""
        with self._noting_silence(channel.name):
            return await ask(channel, request, descriptors, came_at)

    @contextmanager
    def _noting_silence(self, name: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self._silent[name] = asyncio.get_running_loop().time() + SILENT_S
            raise

    def _is_silent(self, name: str) -> bool:
        """Return whether a process was silent just now, and a store decides."""
        now = asyncio.get_running_loop().time()
        self._silent = {each: until for each, until in self._silent.items() if until > now}
        return self.stored_owner is not None and name in self._silent

    async def has(self, session_id: SessionId, name: str) -> bool:
        """Return whether a process answers that it has a session."""
        if self._is_silent(name):
            return False
        channel = None
        try:
            with self._noting_silence(name):
                channel = await self.dial(name)
            return channel is not None and (await self.ask(channel, Locate(session_id))).mine
        except (OSError, TimeoutError, BadLetter, NotProved):
            return False
        finally:
            if channel is not None:
                channel.close()

    async def _dial_machine(self, name: str) -> Channel:
        host, _, port = name.partition(":")[2].rpartition(":")
        channel = Channel(await connect_machine(host, int(port)), name)
        try:
            await prove(channel, self.secret)
        except BaseException:
            channel.close()
            raise
        return channel

    async def dial(self, name: str) -> Channel | None:
        """Return a channel to a process, None if there is none of this name.

        Raises:
            OSError: It cannot be reached.
            TimeoutError: It stands still.
        """
        if not name or name == self.place.name:
            return None
        try:
            async with asyncio.timeout(_patience_s(name)):
                if name.startswith((TCP, LOST)):
                    return await self._dial_machine(name)
                return Channel(await connect_worker(self.place.path_of(name)), name)
        except (ConnectionRefusedError, FileNotFoundError):
            return None


def _patience_s(name: str) -> float:
    return LOST_S if name.startswith(LOST) else ANSWER_S


async def connect_machine(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to a process of another machine.

    Raises:
        OSError: It cannot be reached.
    """
    sock = await asyncio.to_thread(socket.create_connection, (host, port), ANSWER_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def connect_worker(path: Path) -> socket.socket:
    """Return a socket that is connected to a process of this machine.

    Raises:
        OSError: It cannot be reached.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, os.fspath(path))
    except BaseException:
        sock.close()
        raise
    return sock


async def ask(
    channel: Channel, request: Request, descriptors: tuple[int, ...] = (), came_at: float = 0.0
) -> Answer:
    """Return the answer to a request.

    Args:
        channel: A channel without an open request.
        request: The request.
        descriptors: Descriptors that go with it; they stay open here.
        came_at: When its client came, on the event loop's clock; the owner asks for the age.

    Raises:
        BadLetter: The other process is of another version.
        OSError: It is gone.
        TimeoutError: It stands still.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_patience_s(channel.name)):
        await channel.send(encoded(Kind.REQUEST, request), descriptors)
        while True:
            kind, payload, received = await channel.receive()
            for descriptor in received:
                os.close(descriptor)
            if kind != Kind.AGE:
                return answer_of(kind, payload)
            await channel.send(encoded(Kind.AGE, loop.time() - came_at))


async def holds(peers: Peers, membership: Membership, session_id: SessionId, node: str) -> bool:
    """Return whether a node without a lease answers that it has a session."""
    peer, _ = await membership.peer_of(node)
    return bool(peer) and await peers.has(session_id, f"{LOST}{peer}")


async def stored_owner(keeper: Keeper, place: Place, session_id: SessionId) -> str:
    """Return a session's process according to the store; empty without one."""
    try:
        found = await keeper.read(session_id)
    except (StoreError, BadRecord):
        return ""  # the client is answered when its session is restored
    if found is not None and found.stored.clean:
        return ""
    # A session that the store does not have may be in the process that made it, if that is cut off from it.
    owner = found.fence.partition(".")[2] if found is not None else name_of(session_id)
    if not owner or place.path_of(owner[:NAME_CHARS]).exists():
        return owner[:NAME_CHARS]
    if keeper.membership is None:
        return ""
    peer, has_lease = await keeper.membership.peer_of(owner)
    return f"{TCP if has_lease else LOST}{peer}" if peer else ""
