"""Who a client is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bargein_server import AccessRequest, BadAuthenticator, BearerTokens
from bargein_server.guard.authentication import (
    Tickets,
    check_authenticator,
    tokens_of_environment,
    tokens_of_file,
)


def test_a_token_belongs_to_its_principal() -> None:
    """And any other text to nobody."""
    tokens = BearerTokens({"secret": "ann", "other": "bob"})
    assert [tokens.principal_of(text) for text in ("secret", "other", "", "secre", "\ud800")] == [
        "ann", "bob", None, None, None,
    ]  # fmt: skip


def test_tokens_are_not_kept_as_they_are() -> None:
    """A dump of the process's objects does not show them."""
    assert "secret" not in repr(vars(BearerTokens({"secret": "ann"})))


def test_a_ticket_is_good_once() -> None:
    """The second time it is nobody's."""
    tickets = Tickets(30)
    ticket = tickets.issue("ann", 0.0)
    assert tickets.redeem(ticket, 1.0) == "ann"
    assert tickets.redeem(ticket, 1.0) is None


def test_a_ticket_is_good_for_its_time() -> None:
    """At the limit, and not after it."""
    tickets = Tickets(30)
    assert tickets.redeem(tickets.issue("ann", 0.0), 30.0) == "ann"
    assert tickets.redeem(tickets.issue("ann", 0.0), 30.1) is None


def test_tickets_that_nobody_uses_are_forgotten() -> None:
    """Old ones go; beyond the bound the oldest makes room."""
    tickets = Tickets(30, most=3)
    first = tickets.issue("ann", 0.0)
    others = [tickets.issue("ann", 1.0) for _ in range(3)]
    assert len(tickets._issued) == 3
    assert tickets.redeem(first, 2.0) is None
    assert tickets.redeem(others[0], 2.0) == "ann"
    tickets.issue("ann", 100.0)
    assert len(tickets._issued) == 1


def test_a_principal_replaces_its_own_tickets() -> None:
    """Those of others stay good, however many it requests."""
    tickets = Tickets(30, most=4, share=0.5)
    other = tickets.issue("bob", 0.0)
    own = [tickets.issue("ann", 0.0) for _ in range(10)]
    assert [tickets.redeem(ticket, 1.0) for ticket in own] == [None] * 8 + ["ann"] * 2
    assert tickets.redeem(other, 1.0) == "bob"
    assert (tickets._issued, tickets._by_principal) == ({}, {})


def test_tokens_of_a_file(tmp_path: Path) -> None:
    """Comments may be indented; the end of a line is no part of a token."""
    file = tmp_path / "tokens"
    file.write_bytes(b"# ann todo\r\n  # todo\r\n\tann  secret \r\nbob other")
    assert tokens_of_file(str(file)) == {"secret": "ann", "other": "bob"}


def test_a_trailing_newline_is_no_part_of_a_token() -> None:
    """Files of secrets end with one, and no header can contain it."""
    assert tokens_of_environment({"BARGEIN_TOKEN": "secret\n"}) == {"secret": "client"}
    assert tokens_of_environment({}) == {}
    assert BearerTokens({"secret\n": "ann"}).principal_of("secret") == "ann"


@pytest.mark.parametrize("tokens", [{"": "ann"}, {" \n": "ann"}, {"secret": ""}])
def test_an_empty_token_or_principal_is_an_error(tokens: dict[str, str]) -> None:
    """An empty `auth` would be a credential."""
    with pytest.raises(ValueError, match="is empty"):
        BearerTokens(tokens)


async def _asynchronous(request: AccessRequest) -> str | None:
    return None


class _Object:
    async def __call__(self, request: AccessRequest) -> str | None:
        return None


def _plain(request: AccessRequest) -> str | None:
    return None


async def _generator(request: AccessRequest) -> AsyncIterator[str]:
    yield "ann"


@pytest.mark.parametrize("good", [_asynchronous, _Object(), partial(_asynchronous), BearerTokens({"a": "b"})])
def test_authenticators(good: Any) -> None:
    """An async function, or an object that is called like one or has principal_of()."""
    check_authenticator(good)


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ("ann", "got str"),
        ({"token": "ann"}, "got dict"),
        (BearerTokens, "got BearerTokens"),
        (_Object, "got _Object"),
        (_plain, "write `async def _plain`"),
        (_generator, "write `return`"),
    ],
)
def test_anything_else_is_refused_at_the_start(bad: Any, cause: str) -> None:
    """Not with the first client."""
    with pytest.raises(BadAuthenticator, match=cause):
        check_authenticator(bad)
