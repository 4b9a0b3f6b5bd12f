"""Users of an application: their tickets, and the end of a login."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette

from bargein_protocol.errors import RESTART

from ..core.principal import Principal
from ..guard.admission import Admission
from ..hosting.ports import Closable
from ..hosting.registry import SessionRegistry


def issue_ticket(app: Starlette, principal: Principal | str) -> str:
    """Return a ticket for a browser, from a backend in the same process.

    The browser offers it as the subprotocol `bargein.ticket.<ticket>`, or sends it as `auth` in its first
    frame. It is valid once, for `ticket_lifetime_s`, at this machine; the authenticator is not asked about
    its client. `issue_shared_ticket` is for a backend of several machines.

    Args:
        app: The application of `create_app`. It must have an authenticator.
        principal: The client that the backend has authenticated, with its claims if it is a `Principal`.

    Raises:
        ValueError: The application has no authenticator, so it looks at no ticket; or the id is empty.
        RuntimeError: It is called outside the event loop of the application.
    """
    admission: Admission = app.state.admission
    return admission.issue_ticket(principal)


async def issue_shared_ticket(app: Starlette, principal: Principal | str) -> str:
    """Return a ticket that is valid at every server of the store.

    It is in the store when this returns. Without a store that servers share, or while that is away, the
    ticket is valid at this machine, as one of `issue_ticket`. Cancelling it issues no ticket.

    Args:
        app: The application of `create_app`. It must have an authenticator.
        principal: The client that the backend has authenticated. A claim that is no JSON value is left out.

    Raises:
        ValueError: The application has no authenticator, so it looks at no ticket; or the id is empty.
    """
    admission: Admission = app.state.admission
    return await admission.issue_shared_ticket(principal)


def reauthenticate(app: Starlette, principal: str) -> int:
    """Close a user's connections; clients are authenticated anew.

    Call it when a login ends or a right changes, and in each process that serves the application. Clients
    whose login is still valid resume by themselves; the others are refused. Sessions and running turns go
    on, as after a lost connection.

    Args:
        app: The application of `create_app`.
        principal: The user's id.

    Returns:
        Number of connections that were closed, followers included.

    Raises:
        RuntimeError: It is called outside the event loop of the application.
    """
    existing: SessionRegistry | None = getattr(app.state, "sessions", None)
    if existing is None:
        return 0
    if existing.loop is not asyncio.get_running_loop():
        raise RuntimeError("call reauthenticate() in the event loop of the application")
    open_ones: list[Closable] = []
    for host in existing:
        if host.view.principal == principal:
            open_ones += host.followers
            if host.connection is not None:
                open_ones.append(host.connection)
    for connection in open_ones:
        connection.close(RESTART)
    return len(open_ones)
