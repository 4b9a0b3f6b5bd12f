"""Hand-over of a client to the process that owns its session."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial

from msgspec.structs import replace

from bargein_protocol import JSON, MESSAGEPACK, SessionOpen

from ..guard.admission import Admission
from ..guard.limits import RareLog
from ..hosting.registry import SessionRegistry
from ..hosting.restoring import NOT_NOW
from ..transport.connection import Connection
from ..transport.movable_protocol import MovableProtocol, Released
from ..transport.peer_limits import CAN_CAP
from ..transport.wires import TransportWire
from .channel import Channel
from .letters import Answer, BadLetter, Kind, Resume, age_of, caller_of, client_of, encoded, letter
from .link import Link
from .peers import ANSWER_S, Peers
from .pipe import PipeRelay, PipeWire
from .proof import NotProved

rare_log = RareLog(logging.getLogger("bargein.cluster"))

AT_ONCE_S = 0.1
"""Time in which another process answers at once; the age in its answer may be wrong by as much."""

Adopt = Callable[[int, Callable[[MovableProtocol], None]], Awaitable[None]]
"""Continues the connection of a socket, by its descriptor; the callable attaches it."""


class HandOver:
    """Hand-over of clients, at both ends.

    Args:
        peers: The other processes.
        adopt: Continues the connection of a socket.
        registry: The sessions of this process.
        admission: Counts connections.

    Attributes:
        done: Number of clients that were handed over, by `socket` and `pipe`.
        pipes: Pipes to other processes that are open here.
        served: Pipes of clients of other processes, by a future that is done when the client has left.
    """

    def __init__(self, peers: Peers, adopt: Adopt, registry: SessionRegistry, admission: Admission) -> None:
        self.done = {"socket": 0, "pipe": 0}
        self.pipes: set[PipeRelay] = set()
        self.served: dict[asyncio.Future[None], PipeWire] = {}
        self._peers = peers
        self._adopt = adopt
        self._registry = registry
        self._admission = admission

    # --- the process that was asked ----------------------------------------------------------------

    async def take(self, connection: Connection, first: SessionOpen) -> bool:
        """Hand a client over to its session's owner; return whether that has it."""
        assert first.resume is not None
        try:
            async with aclosing(self._peers.owners(first.resume.session_id)) as owners:
                async for channel, hops in owners:
                    answer = await self._offer(channel, connection, first)
                    if answer.mine:
                        return True
                    hops.append(answer.moved_to)
        except (OSError, TimeoutError, BadLetter, NotProved) as error:
            if self._registry.keeper is not None and not connection.is_closing:
                return False  # the store shows whether the owner lives
            # Its owner lives, so its session is not lost: the client comes again.
            rare_log.warning("a client is asked to come again: another worker gives %s", type(error).__name__)
            connection.close(NOT_NOW)
            return True
        return False

    async def _offer(self, channel: Channel, connection: Connection, first: SessionOpen) -> Answer:
        """Offer a client to another process, with its socket if possible."""
        protocol = connection.wire.protocol if isinstance(connection.wire, TransportWire) else None
        movable = protocol if channel.passes_sockets and isinstance(protocol, MovableProtocol) else None
        released = movable.release() if movable is not None else None
        if movable is None or released is None:
            return await self._offer_pipe(channel, connection, first)
        request = self._resume(connection, first, released)
        try:
            answer = await self._peers.ask(channel, request, (released.descriptor,), connection.came_at)
        except BaseException:
            # The other process may have the socket: two must not read it.
            with suppress(OSError):
                movable.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            connection.moved()
            movable.drop()
            raise
        if answer.mine:
            self.done["socket"] += 1
            connection.moved()
            movable.drop()
        else:
            movable.keep(released)
        return answer

    async def _offer_pipe(self, channel: Channel, connection: Connection, first: SessionOpen) -> Answer:
        request = self._resume(connection, first, None, may_move=channel.is_remote)
        answer = await self._peers.ask(channel, request, (), connection.came_at)
        if answer.mine and not connection.is_closing:
            self.done["pipe"] += 1
            relay = PipeRelay(connection, self.pipes.discard)
            self.pipes.add(relay)
            await Link.over(channel, relay)
        return answer

    def _resume(
        self, connection: Connection, first: SessionOpen, released: Released | None, *, may_move: bool = False
    ) -> Resume:
        assert first.resume is not None
        by_socket = released is not None
        return Resume(
            first.resume.session_id,
            JSON.encode(replace(first, auth=None)),
            not connection.codec.text,
            client_of(connection.caller),
            self._registry.loop.time() - connection.came_at,
            by_socket,
            list(connection.early or ()) if by_socket else [],
            released.unread if released is not None else b"",
            may_move,
            answers_age=True,
        )

    # --- the owner -------------------------------------------------------------------------------

    async def came_at(self, channel: Channel, request: Resume) -> float:
        """Return when a client came to another process, on this loop's clock.

        A request that has waited while this process stood still is older than it says, and its client may
        have come on another way since. So the other process is asked until it answers at once.

        Args:
            channel: The channel to that process.
            request: The request, just read.

        Raises:
            BadLetter: The other process is of another version.
            OSError: It is gone, or has given up.
            TimeoutError: It stands still.
        """
        time = self._registry.loop.time
        if not request.answers_age:
            return time() - request.age_s
        async with asyncio.timeout(ANSWER_S):
            while True:
                asked_at = time()
                await channel.send(letter(Kind.AGE))
                kind, payload, _ = await channel.receive()
                now = time()
                if now - asked_at <= AT_ONCE_S:
                    return now - age_of(kind, payload)

    async def serve(self, channel: Channel, request: Resume, came_at: float, descriptors: list[int]) -> None:
        """Serve the client of another process, whose session is here.

        Args:
            channel: The channel to that process.
            request: The request.
            came_at: When the client came.
            descriptors: The client's socket, which is taken from the list, or nothing.

        Raises:
            BadLetter: The socket is missing.
            OSError: The client is gone.
        """
        mine = encoded(Kind.ANSWER, Answer(True))
        if request.socket:
            if not descriptors:
                raise BadLetter("expected a socket")
            await self._adopt(descriptors.pop(0), partial(self._attach, request, came_at))
            await channel.send(mine)
            return
        await channel.send(mine)
        opening = JSON.decode_client(request.opening)
        # A process that stood still may have lost the session, so it looks before it refuses the client.
        wire = PipeWire(not request.binary, lambda: connection.take(opening, found=False))
        connection = wire.receiver = self._connection(wire, request, came_at)
        self.served[connection.lost] = wire
        connection.lost.add_done_callback(self.served.pop)
        await Link.over(channel, wire)

    def _attach(self, request: Resume, came_at: float, protocol: MovableProtocol) -> None:
        """Attach a connection to a handed-over socket and the bytes read already."""
        settings = self._registry.settings
        if settings.max_in_flight_bytes and CAN_CAP:
            protocol.cap_in_flight(settings.max_in_flight_bytes)
        connection = self._connection(TransportWire(protocol, not request.binary), request, came_at)
        protocol.connection = connection
        connection.take(JSON.decode_client(request.opening), found=False)
        for message, text in request.messages:
            connection.receive(message, text)
        if request.unread:
            protocol.data_received(request.unread)

    def _connection(self, wire: TransportWire | PipeWire, request: Resume, came_at: float) -> Connection:
        codec = MESSAGEPACK if request.binary else JSON
        caller, connections = caller_of(request.client), self._admission.connections
        connection = Connection(wire, codec, self._registry, caller, came_at)
        connections.enter(caller.address)
        connection.lost.add_done_callback(lambda lost: connections.leave(caller.address))
        return connection
