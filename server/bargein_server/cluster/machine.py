"""Machine: the address for processes of other machines, and the secret."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

SECRET_VARIABLE = "BARGEIN_PEER_SECRET"
MIN_SECRET_CHARS = 16

PEER_HELP = (
    "where other machines that share the store reach this one, in a private network; workers take it and "
    "the next ones, two for each (needs BARGEIN_PEER_SECRET, the same on all machines)"
)

_FORM = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\[\]:/@]+):([0-9]{1,5})")


class BadPeer(ValueError):
    """`--peer` cannot be used; the message has the cause and the remedy."""


class Machine(Struct, frozen=True):
    """A machine's address.

    Args:
        host: The address of its private network.
        port: The first port; each worker has one of its own behind it.
        secret: The secret of all machines.
    """

    host: str
    port: int
    secret: bytes

    def address_at(self, column: int) -> str:
        """Return `HOST:PORT` of the worker with a column of the shared counts."""
        return f"{self.host}:{self.port + column}"


def machine_of(peer: str | None, store_url: str, environment: Mapping[str, str]) -> Machine | None:
    """Return the machine for `--peer HOST:PORT`, None without one.

    Args:
        peer: The value of the option.
        store_url: The store, in which other machines find the address.
        environment: Has the secret.

    Raises:
        BadPeer: The form is wrong, or the secret or a shared store is missing.
    """
    if peer is None:
        return None
    found = _FORM.fullmatch(peer)
    if found is None or not 0 < int(found[2]) <= 65_000:
        raise BadPeer(f"expected --peer HOST:PORT with an address of a private network, got {peer!r}")
    if not store_url.startswith(("redis", "rediss")):
        raise BadPeer("--peer needs a store that the machines share: give --store redis://…")
    secret = environment.get(SECRET_VARIABLE, "")
    if len(secret) < MIN_SECRET_CHARS:
        raise BadPeer(
            f"--peer needs a secret that all machines share: set {SECRET_VARIABLE} to at least "
            f"{MIN_SECRET_CHARS} random characters"
        )
    return Machine(found[1].strip("[]"), int(found[2]), secret.encode())
