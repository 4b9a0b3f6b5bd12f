"""Node: this process among the processes of its server.

It listens on a socket of its own in the private folder. Each connection brings one request; a pipe goes on
as long as the client's connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from bargein_protocol import SessionId, SessionOpen
from bargein_protocol.errors import RESTART

from ..guard.admission import Admission, Caller
from ..guard.limits import RareLog
from ..hosting.elsewhere import records_of
from ..hosting.host import SessionHost
from ..hosting.keeper import Keeper
from ..hosting.registry import SessionRegistry
from ..hosting.stopping import wait_until
from ..transport.connection import Connection
from .channel import Channel
from .forwarding import ForwardedRequest, forward_of, relay_response
from .handover import Adopt, HandOver
from .letters import (
    Answer,
    BadLetter,
    Forward,
    Kind,
    Locate,
    Move,
    Resume,
    Scrape,
    client_of,
    encoded,
    request_of,
)
from .metrics_merge import merged
from .peers import ANSWER_S, Peers, ask, holds, stored_owner
from .place import Place
from .proof import NotProved, check_proof
from .websocket_forwarding import ForwardedWebSocket, relay_websocket

log = logging.getLogger("bargein.cluster")
rare_log = RareLog(log)

LEAVES_S = 1.0
"""Time in which clients of other processes get the rest of their output when this one ends."""


class Node:
    """This process among the processes of its server; implements `Elsewhere`.

    Args:
        place: Its name and folder.
        adopt: Continues the connection of a socket.
        app: The application, which answers forwarded requests.
        metrics: Returns the metrics of this process; None when they are not served.

    Attributes:
        name: Its name.
        peers: The other processes.
        hand_over: Hand-over of clients; set by `start`.
    """

    hand_over: HandOver

    def __init__(
        self, place: Place, adopt: Adopt, app: ASGIApp, metrics: Callable[[], bytes] | None = None
    ) -> None:
        self.name = place.name
        self.peers = Peers(place)
        self._place = place
        self._adopt = adopt
        self._app = app
        self._metrics = metrics
        self._successor = ""
        self._moves = self._forwarded = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: list[asyncio.Task[None]] = []
        self._relays: set[asyncio.Task[Any]] = set()
        self._registry: SessionRegistry

    def start(self, registry: SessionRegistry, admission: Admission) -> None:
        """Listen to the other processes.

        Raises:
            OSError: The folder is gone or not private.
        """
        self._registry = registry
        if registry.keeper is not None:
            self._ask_store(registry.keeper)
        self.hand_over = HandOver(self.peers, self._adopt, registry, admission)
        self._listening.append(self._run(self._listen(self._place.listen())))
        self._place.take_number()

    def _ask_store(self, keeper: Keeper) -> None:
        """Let the store name owners, and owners without a lease answer themselves."""
        self.peers.stored_owner = partial(stored_owner, keeper, self._place)
        if keeper.membership is not None:
            keeper.membership.holds = partial(holds, self.peers, keeper.membership)

    def serve_machines(self, listener: socket.socket, secret: bytes, address: str) -> None:
        """Listen to processes of other machines as well.

        Args:
            listener: The listening socket, which is closed in the end.
            secret: The secret of all machines.
            address: Where they reach it, `HOST:PORT`; they find it in the store.
        """
        self.peers.secret = secret
        keeper = self._registry.keeper
        if keeper is not None and keeper.membership is not None:
            keeper.membership.peer = address
        listener.setblocking(False)
        self._listening.append(self._run(self._listen(listener)))

    def leave_to(self, successor: str) -> None:
        """Give the sessions and this name to another process at the end."""
        self._successor = successor

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="cluster")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self, began: float | None = None) -> None:
        """Stop listening; the name leads nowhere from now on, or to a successor.

        Clients of other processes get all that was written to them, within a bounded time, and clients here
        that others serve go on meanwhile: as a rule those processes stop, too, and end their turns.

        Args:
            began: Time on the event loop's clock at which the server began to stop; None for now.
        """
        if self._listening:
            await self._let_clients_leave(asyncio.get_running_loop().time() if began is None else began)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(OSError):
            if self._successor:
                self._place.leave_to(self._successor)
            else:
                self._place.path.unlink()

    async def _let_clients_leave(self, began: float) -> None:
        """Wait until clients of other processes, and clients served there, left."""
        registry, hurried = self._registry, self._registry.stopping.hurried
        for task in self._listening:
            task.cancel()
        for host in registry:
            if host.connection is not None:
                host.connection.close(RESTART)
        leaving = {*self._tasks.difference(self._listening), *self.hand_over.served}
        await wait_until(leaving, LEAVES_S, hurried)
        for wire in self.hand_over.served.values():
            wire.drop()
        left_s = began + registry.settings.drain_s + LEAVES_S - registry.loop.time()
        await wait_until(set(self._relays), max(0.0, left_s), hurried)

    # --- asking ----------------------------------------------------------------------------------

    def may_have(self, session_id: SessionId) -> bool:
        """Return whether another process may own a session that this one does not."""
        if self._registry.has(session_id):
            return False
        if session_id in self.peers.moving or self._registry.keeper is not None:
            return True
        owner = self.peers.owner_of(session_id)
        return bool(owner) and self._place.path_of(owner).exists()

    async def take(self, connection: Connection, first: SessionOpen) -> bool:
        """Hand a client over to its session's owner; return whether that has it."""
        assert first.resume is not None
        if not self.may_have(first.resume.session_id):
            return False
        return await self.hand_over.take(connection, first)

    async def forward(
        self, session_id: SessionId, scope: Scope, receive: Receive, send: Send, caller: Caller, body: bytes
    ) -> bool:
        """Let a session's owner answer a request; False if this is the owner.

        Raises:
            OSError: The owner is gone, or stands still; or the client is gone.
        """
        request = forward_of(scope, client_of(caller), session_id, body)
        answered = False
        try:
            await self.peers.settled(session_id)
            async with aclosing(self.peers.owners(session_id)) as owners:
                async for channel, hops in owners:
                    answer = await self.peers.ask(channel, request)
                    if answer.mine:
                        answered = True
                        await self._relay(channel, request, scope, receive, send)
                        return True
                    hops.append(answer.moved_to)
        except (OSError, TimeoutError, BadLetter, NotProved) as error:
            if answered or self._registry.keeper is None:
                raise OSError("the owner does not answer") from error
            # The store shows whether it lives.
        return False

    async def _relay(self, channel: Channel, request: Forward, scope: Any, receive: Any, send: Any) -> None:
        self._forwarded += 1
        if request.websocket:
            with self._relayed():
                await relay_websocket(channel, scope, receive, send)
        else:
            await relay_response(channel, receive, send)

    @contextmanager
    def _relayed(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        try:
            yield
        finally:
            self._relays.discard(task)

    async def metrics(self, own: bytes) -> bytes:
        """Return the metrics of all processes, each sample with its worker."""
        names = self._place.names()
        texts = await asyncio.gather(*(self._scrape(name) for name in names))
        found = [(str(self._place.number + 1), own.decode())]
        found += [text for text in texts if text is not None]
        return merged(sorted(found)).encode()

    async def _scrape(self, name: str) -> tuple[str, str] | None:
        channel = None
        try:
            if (channel := await self.peers.dial(name)) is not None:
                answer = await ask(channel, Scrape())
                return answer.label, answer.value.decode()
        except (OSError, TimeoutError, BadLetter, UnicodeError):
            log.warning("the metrics of a worker are missing: it stands still, or has ended")
        finally:
            if channel is not None:
                channel.close()
        return None

    def gauges(self) -> Mapping[str, float]:
        """Return the counts of this process for its metrics."""
        done = self.hand_over.done
        return {
            "bargein_handed_over_sockets": done["socket"],
            "bargein_handed_over_pipes": done["pipe"],
            "bargein_forwarded_requests": self._forwarded,
            "bargein_moved_sessions": self._moves,
            "bargein_pipes": len(self.hand_over.pipes),
        }

    # --- moving ----------------------------------------------------------------------------------

    @property
    def has_successor(self) -> bool:
        """Whether the sessions of this process go to another one when it stops."""
        return bool(self._successor)

    async def move(self, host: SessionHost) -> bool:
        """Give an idle session to the successor; return whether that has it.

        Its client is asked to come back at once, and finds it there.
        """
        session_id = host.core.identity.session_id
        if host.connection is not None:
            host.connection.close(RESTART)
        for follower in tuple(host.followers):
            follower.close(RESTART)
        if self._registry.keeper is not None:
            return await self._release(host)
        # From its records on nothing of the session may change here, so it is dropped in the same step.
        move = Move.of(records_of(host))
        self._registry.moved(host)
        moving = self.peers.moving[session_id] = asyncio.get_running_loop().create_future()
        try:
            arrived = await self._arrives(move)
            if arrived:
                self._moves += 1
                self.peers.moved[session_id] = self._successor
            else:
                self._registry.take_over(move.stored())
            return arrived
        finally:
            del self.peers.moving[session_id]
            moving.set_result(None)

    async def _release(self, host: SessionHost) -> bool:
        """Give a session to the store, for the process that its client meets."""
        session_id = host.core.identity.session_id
        moving = self.peers.moving[session_id] = asyncio.get_running_loop().create_future()
        try:
            await self._registry.release(host)
            self._moves += 1
            return True
        finally:
            del self.peers.moving[session_id]
            moving.set_result(None)

    async def _arrives(self, move: Move) -> bool:
        channel = None
        try:
            channel = await self.peers.dial(self._successor)
            return channel is not None and (await ask(channel, move)).mine
        except (OSError, TimeoutError, BadLetter) as error:
            log.error("a session stays, because the new worker gives %s", type(error).__name__)
            return False
        finally:
            if channel is not None:
                channel.close()

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
            if channel.is_remote:
                async with asyncio.timeout(ANSWER_S):
                    await check_proof(channel, self.peers.secret)
            elif not channel.is_trusted:
                log.warning("a process of another user is refused")
                return
            async with asyncio.timeout(ANSWER_S):
                kind, payload, descriptors = await channel.receive()
            await self._answer(channel, request_of(kind, payload), descriptors)
        except (OSError, TimeoutError):
            pass  # the other process is gone, or its client
        except NotProved:
            rare_log.warning("a machine is refused: its BARGEIN_PEER_SECRET is another one")
        except BadLetter as error:
            log.error("a request of another process cannot be read: %s", error)
        except Exception:
            log.exception("a request of another process failed")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            channel.close()

    async def _answer(self, channel: Channel, request: object, descriptors: list[int]) -> None:
        answer = Answer(False)
        came_at = await self.hand_over.came_at(channel, request) if isinstance(request, Resume) else 0.0
        match request:
            case Resume(session_id) | Forward(session_id) | Locate(session_id):
                await self.peers.settled(session_id)
                answer = await self.peers.located(session_id, self._registry.has(session_id))
            case Scrape():
                text = self._metrics() if self._metrics is not None else b""
                answer = Answer(True, label=str(self._place.number + 1), value=text)
            case Move():
                answer = Answer(self._registry.take_over(request.stored()))
        if isinstance(request, Resume) and request.may_move and self._can_move(request):
            answer = Answer(False)
        if isinstance(request, Resume) and answer.mine:
            await self.hand_over.serve(channel, request, came_at, descriptors)
            return
        await channel.send(encoded(Kind.ANSWER, answer))
        if isinstance(request, Forward) and answer.mine:
            kind = ForwardedWebSocket if request.websocket else ForwardedRequest
            await kind(channel, request).run(self._app)

    def _can_move(self, request: Resume) -> bool:
        """Return whether a session is idle and can move through the store."""
        registry = self._registry
        host = registry.find(request.session_id, request.client.principal)
        is_away = registry.keeper is not None and registry.keeper.health.is_ignored
        return host is None or not (host.core.busy or is_away)
