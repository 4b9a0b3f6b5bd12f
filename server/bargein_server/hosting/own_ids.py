"""Sessions by ids of the clients, for protocols without session tokens.

Such an id is unique for its principal, and so is the session. Without authentication all clients are one
principal, so the id is the only secret: it must be as hard to guess as a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from msgspec import json
from msgspec.structs import replace

from bargein_protocol import JSON, Codec, Seq, SessionId

from ..core.history import Message, seed_message
from ..core.principal import Principal, id_of, known_as
from ..core.records import Head
from ..core.session import Session
from ..core.turn_record import memory_of
from .host import SessionHost
from .ports import ClientConnection
from .restoring import OWN_ID_PREFIX, Restorer, Shown
from .session_pool import SessionPool


class Unavailable(Exception):
    """There is no room for the session, or the store that has it fails.

    Attributes:
        share_used: Whether there would be room for another client.
    """

    def __init__(self, share_used: bool = False) -> None:
        super().__init__("the session is not available now")
        self.share_used = share_used


class Create(Protocol):
    """Puts a new session into memory."""

    def __call__(
        self, codec: Codec, principal: Principal | None, owner: str, kept: bool, session_id: SessionId
    ) -> SessionHost:
        """Return its host."""
        ...


def own_session_id(principal: str | None, own_id: str) -> SessionId:
    """Return the id of the session that a principal means by an id of its own."""
    name = json.encode([id_of(principal), own_id])
    return SessionId(OWN_ID_PREFIX + sha256(name).hexdigest()[:40])


class OwnIds:
    """Sessions of one server by ids of its clients.

    Args:
        hosts: The sessions in memory.
        restorer: Restores stored sessions; None without a store.
        make_room: Makes room for a session of a client; returns whether there is room.
        create: Puts a new session into memory.
    """

    def __init__(
        self,
        hosts: SessionPool,
        restorer: Restorer | None,
        make_room: Callable[[str], bool],
        create: Create,
    ) -> None:
        self._hosts = hosts
        self._restorer = restorer
        self._make_room = make_room
        self._create = create

    async def find(self, principal: str | None, own_id: str) -> SessionHost | None:
        """Return the session of an id, from the store if need be.

        None for an id that has none.

        Raises:
            Unavailable: There is no room for it, or the store fails.
        """
        session_id = own_session_id(principal, own_id)
        if self._restorer is not None and self._restorer.is_needed(session_id):

            def admits(head: Head) -> bool:
                return head.principal == principal

            if await self._restorer.restore(session_id, admits, Shown(principal, own_id=True)) is not None:
                raise Unavailable
        host = self._hosts.get(session_id)
        if host is None or host.view.principal != principal:
            return None
        host.view.principal = known_as(principal)  # with the claims of this request
        host.core.outside.keep_idle()
        return host

    async def open(self, principal: str | None, own_id: str, owner: str) -> SessionHost:
        """Return the session of an id, a new one if need be.

        Args:
            principal: The authenticated client; None without authentication.
            own_id: The client's id of the conversation.
            owner: The client whose share a new session uses (`Caller.owner`).

        Raises:
            Unavailable: There is no room for it, or the store fails.
        """
        host = await self.find(principal, own_id)
        if host is None:
            host = self._new(principal, own_session_id(principal, own_id), owner, True)
            host.core.outside.keep_idle()
        return host

    def once(self, principal: str | None, own_id: str, owner: str) -> SessionHost:
        """Return a new session that no store keeps, for a single request.

        Raises:
            Unavailable: There is no room for it.
        """
        return self._new(principal, own_session_id(principal, own_id), owner, False)

    def _new(self, principal: str | None, session_id: SessionId, owner: str, kept: bool) -> SessionHost:
        if not self._make_room(owner):
            raise Unavailable(self._hosts.share_used(owner))
        host = self._create(JSON, known_as(principal), owner, kept, session_id)
        self._hosts.detached(host)
        return host

    def drive(
        self,
        host: SessionHost,
        connection: ClientConnection,
        codec: Codec,
        after: Seq,
        trace: Mapping[str, str],
    ) -> None:
        """Let a connection drive a session without a driver, from a number on.

        Args:
            host: The session.
            connection: The connection.
            codec: Codec of its frames.
            after: The last number that it has, or does not need.
            trace: W3C trace context of its request, by header.
        """
        host.connection, host.newest = connection, max(host.newest, connection.number)
        self._hosts.attached(host)
        host.telemetry.attached("resumed", trace)
        host.core.outside.attach(codec, after, host.loop.time(), connection.hand_over)
        host.flush()


def seed(host: SessionHost, messages: Sequence[Message]) -> None:
    """Set the messages before a session's first turn.

    The content of their files stays in memory: records have their names.
    """
    core, persistence = host.core, host.core.persistence
    restore_seed(core, messages)
    if persistence is not None:
        named = [seed_message(message, False) for message in messages]
        persistence.head = replace(persistence.head, seed=named)
        persistence.changes.touch_head()


def restore_seed(core: Session, messages: Sequence[Message]) -> None:
    """Set the messages before a session that are on record."""
    core.seed = list(messages)
    core.outside.kept_bytes = memory_of(json.encode(core.seed)) if messages else 0
