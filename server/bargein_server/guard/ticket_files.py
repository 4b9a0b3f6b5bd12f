"""Tickets that several processes of one machine share.

A ticket is a file of a private folder, named by the ticket's hash. Whoever removes the file has redeemed the
ticket: the system lets only one process do that, so it is valid once, at any of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..core.principal import Principal, known_as
from .authentication import Tickets, ticket_digest
from .claims import portable_claims

_content = msgspec.msgpack.Decoder(tuple[str, dict[str, Any], float])


class TicketFiles(Tickets):
    """Tickets of several processes.

    Args:
        folder: The private folder; it is made when it does not exist.
        lifetime_s: Seconds for which a ticket is valid.
        share: Part of the unused tickets that one principal may have.
        clock: Returns the time in seconds, on a clock that all processes share.
    """

    def __init__(
        self, folder: Path, lifetime_s: float, share: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(lifetime_s, share=share)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._clock = clock

    def issue(self, principal: str, now: float, prefix: str = "") -> str:
        """Return a new ticket, which every process redeems."""
        ticket = super().issue(principal, now, prefix)
        path = self._path(ticket_digest(ticket))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            known = known_as(principal)
            until = self._clock() + self.lifetime_s
            file.write(msgspec.msgpack.encode((known.id, portable_claims(known), until)))
        return ticket

    def redeem(self, ticket: str, now: float) -> Principal | None:
        """Return the principal of a ticket, which is then used; None if unknown."""
        path = self._path(ticket_digest(ticket))
        try:
            content = path.read_bytes()
            path.unlink()
        except OSError:
            return None
        try:
            principal_id, claims, until = _content.decode(content)
        except msgspec.MsgspecError:  # its process died while it wrote the file
            return None
        return Principal(principal_id, claims) if self._clock() <= until else None

    def _drop(self, digest: bytes) -> tuple[Principal | None, float]:
        with suppress(OSError):
            self._path(digest).unlink()
        return super()._drop(digest)

    def _path(self, digest: bytes) -> Path:
        return self._folder / digest.hex()
