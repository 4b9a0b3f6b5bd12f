"""Node: this process among the processes of its server.

It listens on a socket of its own in the private folder. Each connection brings one request; a pipe goes on
as long as the client's connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec.structs import replace

from bargein_protocol import JSON, MESSAGEPACK, SessionId, SessionOpen
from bargein_protocol.errors import OVERLOADED

from ..core.principal import Principal, id_of
from ..guard.admission import Admission, Caller
from ..guard.limits import RareLog
from ..hosting.registry import SessionRegistry
from ..transport.connection import Connection
from ..transport.movable_protocol import MovableProtocol, Released
from ..transport.peer_limits import CAN_CAP
from ..transport.wires import TransportWire
from .channel import CAN_PASS_SOCKETS, Channel
from .letters import (
    Answer,
    BadLetter,
    Client,
    Kind,
    Locate,
    Request,
    Resume,
    answer_of,
    encoded,
    portable_claims,
    request_of,
)
from .link import Link
from .pipe import PipeRelay, PipeWire
from .place import Place, name_of

log = logging.getLogger("bargein.cluster")
rare_log = RareLog(log)

ANSWER_S = 5.0
"""Time for an answer of another process; one that stands still for longer serves nobody."""

MAX_HOPS = 3
"""Processes that are asked for one session: each may have given it to the next."""

Adopt = Callable[[int, Callable[[MovableProtocol], None]], Awaitable[None]]
"""Continue the connection of a socket, by its descriptor; the callable attaches it."""


class Node:
    """This process among the processes of its server; implements `Elsewhere`.

    Args:
        place: Its name and folder.
        adopt: Continues the connection of a socket.

    Attributes:
        name: Its name.
        handed_over: Number of clients that it has handed over, by `socket` and `pipe`.
        pipes: Pipes to other processes that are open here.
        moved: Sessions that it has given to another process, with the name of that.
    """

    def __init__(self, place: Place, adopt: Adopt) -> None:
        self.name = place.name
        self.handed_over = {"socket": 0, "pipe": 0}
        self.pipes: set[PipeRelay] = set()
        self.moved: dict[SessionId, str] = {}
        self._successor = ""
        self._place = place
        self._adopt = adopt
        self._tasks: set[asyncio.Task[None]] = set()
        self._registry: SessionRegistry
        self._admission: Admission

    def start(self, registry: SessionRegistry, admission: Admission) -> None:
        """Listen to the other processes.

        Raises:
            OSError: The folder is gone or not private.
        """
        self._registry, self._admission = registry, admission
        self._run(self._listen(self._place.listen()))

    def leave_to(self, successor: str) -> None:
        """Let this name lead to another process when this one stops."""
        self._successor = successor

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="cluster")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop listening; the name leads nowhere from now on, or to a successor."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(OSError):
            if self._successor:
                self._place.leave_to(self._successor)
            else:
                self._place.path.unlink()

    # --- asking ----------------------------------------------------------------------------------

    def may_have(self, session_id: SessionId) -> bool:
        """Return whether another process may own a session that this one does not."""
        owner = self._owner_of(session_id) if not self._registry.has(session_id) else ""
        return bool(owner) and self._place.path_of(owner).exists()

    def _owner_of(self, session_id: SessionId) -> str:
        owner = self.moved.get(session_id, "") or name_of(session_id)
        return owner if owner != self.name else ""

    async def take(self, connection: Connection, first: SessionOpen) -> bool:
        """Hand a client over to the owner of its session; return whether that has the client now."""
        assert first.resume is not None
        if not self.may_have(first.resume.session_id):
            return False
        owner = self._owner_of(first.resume.session_id)
        try:
            for _ in range(MAX_HOPS):
                channel = await self._dial(owner) if owner and owner != self.name else None
                if channel is None:
                    return False
                try:
                    answer = await self._offer(channel, connection, first)
                finally:
                    channel.close()
                if answer.mine:
                    return True
                owner = answer.moved_to
        except (OSError, TimeoutError, BadLetter) as error:
            # Its owner lives, so its session is not lost: the client comes again.
            rare_log.warning("a client is asked to come again: another worker gives %s", type(error).__name__)
            connection.close(OVERLOADED)
            return True
        return False

    async def _dial(self, name: str) -> Channel | None:
        """Return a channel to a process, None if there is none of this name."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel = Channel(sock)
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.get_running_loop().sock_connect(sock, os.fspath(self._place.path_of(name)))
        except (ConnectionRefusedError, FileNotFoundError):
            channel.close()
            return None
        except BaseException:
            channel.close()
            raise
        return channel

    async def ask(self, channel: Channel, request: Request, descriptors: tuple[int, ...] = ()) -> Answer:
        """Return the answer to a request.

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

    async def _offer(self, channel: Channel, connection: Connection, first: SessionOpen) -> Answer:
        """Offer a client to another process, with its socket if possible."""
        protocol = connection.wire.protocol if isinstance(connection.wire, TransportWire) else None
        movable = protocol if CAN_PASS_SOCKETS and isinstance(protocol, MovableProtocol) else None
        released = movable.release() if movable is not None else None
        if movable is None or released is None:
            return await self._offer_pipe(channel, connection, first)
        request = self._resume(connection, first, released)
        try:
            answer = await self.ask(channel, request, (released.descriptor,))
        except BaseException:
            # The other process may have the socket: two must not read it.
            with suppress(OSError):
                movable.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            movable.drop()
            raise
        if answer.mine:
            self.handed_over["socket"] += 1
            connection.moved()
            movable.drop()
        else:
            movable.keep(released)
        return answer

    async def _offer_pipe(self, channel: Channel, connection: Connection, first: SessionOpen) -> Answer:
        answer = await self.ask(channel, self._resume(connection, first, None))
        if answer.mine and not connection.is_closing:
            self.handed_over["pipe"] += 1
            relay = PipeRelay(connection, self.pipes.discard)
            self.pipes.add(relay)
            await Link.over(channel, relay)
        return answer

    def _resume(self, connection: Connection, first: SessionOpen, released: Released | None) -> Resume:
        assert first.resume is not None
        caller = connection.caller
        by_socket = released is not None
        return Resume(
            first.resume.session_id,
            JSON.encode(replace(first, auth=None)),
            not connection.codec.text,
            _client(caller),
            self._registry.loop.time() - connection.came_at,
            by_socket,
            list(connection.early or ()) if by_socket else [],
            released.unread if released is not None else b"",
        )

    # --- answering -------------------------------------------------------------------------------

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                accepted, _ = await loop.sock_accept(listener)
                self._run(self._serve(Channel(accepted)))

    async def _serve(self, channel: Channel) -> None:
        """Answer the request of another process."""
        descriptors: list[int] = []
        try:
            if not channel.is_trusted:
                log.warning("a process of another user is refused")
                return
            async with asyncio.timeout(ANSWER_S):
                kind, payload, descriptors = await channel.receive()
            request = request_of(kind, payload)
            if isinstance(request, Resume):
                await self._serve_resume(channel, request, descriptors)
            elif isinstance(request, Locate):
                await _send_answer(channel, self._located(request.session_id))
        except (OSError, TimeoutError):
            pass  # the other process is gone, or its client
        except BadLetter as error:
            log.error("a request of another process cannot be read: %s", error)
        except Exception:
            log.exception("a request of another process failed")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            channel.close()

    def _located(self, session_id: SessionId) -> Answer:
        return Answer(self._registry.has(session_id), self.moved.get(session_id, ""))

    async def _serve_resume(self, channel: Channel, request: Resume, descriptors: list[int]) -> None:
        answer = self._located(request.session_id)
        if not answer.mine:
            await _send_answer(channel, answer)
        elif request.socket:
            if not descriptors:
                raise BadLetter("expected a socket")
            await self._adopt(descriptors.pop(0), partial(self._attach, request))
            await _send_answer(channel, answer)
        else:
            await _send_answer(channel, answer)
            wire = PipeWire(not request.binary, lambda: connection.take(opening))
            opening = JSON.decode_client(request.opening)
            connection = wire.receiver = self._connection(wire, request)
            await Link.over(channel, wire)

    def _attach(self, request: Resume, protocol: MovableProtocol) -> None:
        """Attach a connection to a socket that was handed over, and give it what was read already."""
        settings = self._registry.settings
        if settings.max_in_flight_bytes and CAN_CAP:
            protocol.cap_in_flight(settings.max_in_flight_bytes)
        connection = self._connection(TransportWire(protocol, not request.binary), request)
        protocol.connection = connection
        connection.take(JSON.decode_client(request.opening))
        for message, text in request.messages:
            connection.receive(message, text)
        if request.unread:
            protocol.data_received(request.unread)

    def _connection(self, wire: TransportWire | PipeWire, request: Resume) -> Connection:
        client = request.client
        principal = None if client.principal is None else Principal(client.principal, client.claims)
        caller = Caller(principal, client.known, _proves_nothing, client.address)
        caller.trace = client.trace
        codec = MESSAGEPACK if request.binary else JSON
        connection = Connection(wire, codec, self._registry, caller, request.age_s)
        self._admission.connections.enter(client.address)
        connection.lost.add_done_callback(lambda lost: self._admission.leave(client.address))
        return connection


async def _send_answer(channel: Channel, answer: Answer) -> None:
    await channel.send(encoded(Kind.ANSWER, answer))


def _client(caller: Caller) -> Client:
    principal = caller.principal
    claims = portable_claims(principal)
    return Client(id_of(principal), caller.known, caller.address, dict(caller.trace), claims)


def _proves_nothing(credential: str) -> Principal | None:
    return None
