"""The authenticated client of a session."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, overload


class Principal(str):
    """An authenticated client: a text, which is its id, with claims.

    Sessions, their store and their limits belong to the id: principals with one id are equal, whatever their
    claims. A store keeps the id alone.

    Args:
        id: The id, such as the key of a user in the application's own database. It is logged and stored.
        claims: Further facts about the client for agents, such as its plan or its language. They are
            read-only, and no client gets them. Other processes of the server get those that are JSON values,
            and a shared store has them for the lifetime of a ticket.

    Raises:
        ValueError: The id is empty.

    Attributes:
        claims: The claims; empty for a client without them.
    """

    __slots__ = ("claims",)

    claims: Mapping[str, Any]

    def __new__(cls, id: str, claims: Mapping[str, Any] | None = None) -> Principal:  # noqa: A002
        """Make a principal from its id and its claims."""
        if not id:
            raise ValueError("the id of a principal is empty; give each client a text of its own")
        principal = super().__new__(cls, id)
        principal.claims = MappingProxyType(dict(claims or {}))
        return principal

    @property
    def id(self) -> str:
        """The id as a plain text."""
        return str(self)

    def __repr__(self) -> str:
        """Return the id without the claims, which may be personal."""
        return f"Principal({str.__repr__(self)})"


@overload
def known_as(principal_id: str) -> Principal: ...


@overload
def known_as(principal_id: None) -> None: ...


def known_as(principal_id: str | None) -> Principal | None:
    """Return the principal of an id without claims; a principal unchanged."""
    if principal_id is None or isinstance(principal_id, Principal):
        return principal_id
    return Principal(principal_id)


def id_of(principal: str | None) -> str | None:
    """Return the id as a plain text, which every encoder accepts."""
    return None if principal is None else str(principal)
