"""Peers: the other processes of a server, and how to reach them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable

from bargein_protocol import SessionId

from .channel import Channel
from .letters import Answer, Kind, Request, answer_of, encoded
from .place import OWN_PREFIX, Place, name_of, number_of
from .proof import prove

ANSWER_S = 5.0
"""Time for an answer of another process; one that stands still for longer serves nobody."""

TCP = "tcp:"
"""Start of the name of a process on another machine; `HOST:PORT` follows."""

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

    def owner_of(self, session_id: SessionId) -> str:
        """Return the process to ask for a session; empty for this or an unknown."""
        owner = self.moved.get(session_id, "") or name_of(session_id)
        if not owner and (number := number_of(session_id, self.place.workers)) is not None:
            owner = self.place.name_at(number)
        return owner if owner != self.place.name else ""

    async def _stored_owner(self, session_id: SessionId) -> str:
        return await self.stored_owner(session_id) if self.stored_owner is not None else ""

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
            channel = await self.dial(name)
            if channel is not None:
                try:
                    yield channel, names
                finally:
                    channel.close()

    async def _dial_machine(self, address: str) -> Channel | None:
        """Return a channel to another machine's process; None if its port is shut."""
        host, _, port = address.rpartition(":")
        async with asyncio.timeout(ANSWER_S):
            try:
                sock = await asyncio.to_thread(socket.create_connection, (host, int(port)), ANSWER_S)
            except ConnectionRefusedError:
                return None
            channel = Channel(sock)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
        if name.startswith(TCP):
            return await self._dial_machine(name.removeprefix(TCP))
        channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        path = os.fspath(self.place.path_of(name))
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.get_running_loop().sock_connect(channel.sock, path)
        except (ConnectionRefusedError, FileNotFoundError):
            channel.close()
            return None
        except BaseException:
            channel.close()
            raise
        return channel


async def ask(channel: Channel, request: Request, descriptors: tuple[int, ...] = ()) -> Answer:
    """Return the answer to a request.

    Args:
        channel: A channel without an open request.
        request: The request.
        descriptors: Descriptors that go with it; they stay open here.

    Raises:
        BadLetter: The other process is of another version.
        OSError: It is gone.
        TimeoutError: It stands still.
    """
    async with asyncio.timeout(ANSWER_S):
        await channel.send(encoded(Kind.REQUEST, request), descriptors)
        kind, payload, received = await channel.receive()
    for descriptor in received:
        os.close(descriptor)
    return answer_of(kind, payload)
