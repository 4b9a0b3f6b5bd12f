"""Interface of a store that many servers share.

Each server is a *node* with a name that is new at each start. It holds a *lease*, which it renews ten times a
second. A session whose fence names another node belongs to that node for as long as its lease is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import Struct

from bargein_protocol import SessionId

from .interface import Store

WORKER_CHARS = 8
"""Characters at the start of a node's name that are the name of its worker."""


class Node(Struct, frozen=True):
    """A server among those that share a store.

    Args:
        name: Its name, new at each start.
        address: Where others reach it, encoded by its hosting.
    """

    name: str
    address: str

    @property
    def worker(self) -> str:
        """The name of its worker, which also the ids of its sessions contain."""
        return self.name[:WORKER_CHARS]


class MoveRequest(Struct, frozen=True):
    """Request to a session's owner to release it: its client is elsewhere.

    Args:
        number: Name of the request, for its answer.
        session_id: The session.
        principal: The authenticated client; None without authentication.
        digest: SHA-256 of the token that the client has shown; empty if it has shown its own id of the
            session instead.
        age_s: Seconds since the client came, also when it is answered; 0 for a client that may always have
            the session.
    """

    number: str
    session_id: SessionId
    principal: str | None
    digest: bytes
    age_s: float = 0.0

    def encoded(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)


class Beat(Struct, frozen=True):
    """Answer of the store to a node's beat.

    Args:
        forgot: Whether the store does not have what this node wrote: it went back, or was emptied.
        young_s: Seconds until the store is no longer young: it may have gone back less than a second ago.
        requests: Requests to this node.
    """

    forgot: bool
    young_s: float
    requests: Sequence[MoveRequest]


@runtime_checkable
class SharedStore(Store, Protocol):
    """Store of many servers; methods raise `StoreError` when it is unusable."""

    async def beat(self, node: Node, lease_s: float) -> Beat:
        """Renew the lease of a node.

        Writes of the node carry its mark as well from now on.
        """
        ...

    def wall(self) -> float:
        """Return the store's time in seconds since 1970, by its last beat.

        Times in records are compared by other servers, whose clocks may differ.
        """
        ...

    async def leave(self, node: Node) -> None:
        """End the lease of a node that has released its sessions."""
        ...

    async def node(self, name: str) -> Node | None:
        """Return a node, None when its lease is over."""
        ...

    async def last_address(self, worker: str) -> str:
        """Return a worker's address, also after its lease; empty when unknown."""
        ...

    async def ask(self, name: str, request: MoveRequest) -> None:
        """Put a request into the mailbox of a node."""
        ...

    async def answer(self, number: str, answer: str) -> None:
        """Answer a request."""
        ...

    async def answered(self, number: str) -> str | None:
        """Return the answer to a request, None as long as there is none."""
        ...

    async def keep_ticket(
        self, digest: bytes, content: bytes, lifetime_s: float, dropped: Sequence[bytes] = ()
    ) -> None:
        """Keep a new ticket, which any server takes.

        Args:
            digest: SHA-256 of the ticket.
            content: Its content.
            lifetime_s: Seconds after which the store forgets it.
            dropped: Digests of other tickets, which the store forgets now.
        """
        ...

    async def take_ticket(self, digest: bytes) -> bytes | None:
        """Return the content of a ticket and forget it; None if unknown.

        One caller alone gets it, whichever servers ask at the same time. After an error nobody may get it.
        """
        ...


Moved = Callable[[MoveRequest], None]
"""Takes a request of another node."""
