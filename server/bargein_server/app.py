"""Puts the parts together: `create_app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import cache

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Lifespan
from starlette.websockets import WebSocket

from .agent import Agent, check_agent
from .endpoints.page import Page, page_folder
from .endpoints.tickets import issue_ticket
from .endpoints.websocket import serve_session
from .guard.authentication import Authenticator
from .guard.door import Door
from .settings import Settings
from .shell.sessions import Sessions

SESSION_PATH = "/v1/session"
TICKET_PATH = "/v1/tickets"


def create_app(
    agent: Agent,
    settings: Settings | None = None,
    *,
    authenticator: Authenticator | None = None,
    origins: Collection[str] = (),
) -> Starlette:
    """Return a Starlette application that serves an agent: mount it, test it, or give it to uvicorn.

    Under `bargein-server`, or with `uvicorn.Config(ws=BargeinProtocol)`, connections go straight to
    the transport; under any other server they use plain ASGI.

    An agent's `startup()` and `shutdown()` are awaited in the application's lifespan. Starlette does
    not run the lifespan of an application that is mounted in another.

    Args:
        agent: See `bargein_server.Agent`.
        settings: The limits.
        authenticator: Knows who clients are, such as `BearerTokens`; None lets everybody in.
        origins: Web origins, such as `https://example.com`, whose pages may connect beside the
            server's own.

    Raises:
        NotAnAgent: `agent` is not an async generator function.
    """
    check_agent(agent)
    limits = settings if settings is not None else Settings()
    door = Door(limits, authenticator, origins, lambda: asyncio.get_running_loop().time())

    def sessions(app: Starlette) -> Sessions:
        # Made by the first who asks inside the event loop: a mounted application has no lifespan.
        existing: Sessions | None = getattr(app.state, "sessions", None)
        if existing is None or existing.loop is not asyncio.get_running_loop():
            existing = app.state.sessions = Sessions(agent, limits)
        return existing

    async def session_endpoint(websocket: WebSocket) -> None:
        await serve_session(websocket, sessions(app), door)

    async def ticket_endpoint(request: Request) -> Response:
        return await issue_ticket(request, door)

    page = _page()
    app = Starlette(
        routes=[
            Route("/", page.index),
            Route("/static/{path:path}", page.file),
            WebSocketRoute(SESSION_PATH, session_endpoint),
            Route(TICKET_PATH, ticket_endpoint, methods=["POST"]),
        ],
        lifespan=_lifespan(agent, sessions),
    )
    return app


@cache
def _page() -> Page:
    """The page's files: read once, however many applications a process makes."""
    return Page(page_folder())


def _lifespan(agent: Agent, sessions: Callable[[Starlette], Sessions]) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        startup, shutdown = getattr(agent, "startup", None), getattr(agent, "shutdown", None)
        sessions(app)
        if startup is not None:
            await startup()
        try:
            yield
        finally:
            await shut_down_sessions(app)
            app.state.sessions = None
            if shutdown is not None:
                await shutdown()

    return lifespan


async def shut_down_sessions(app: Starlette) -> int:
    """End every turn of an application with `failed` and `shutdown`, within the bound of the cleanups.

    Returns:
        How many tasks of turns have not ended all the same.
    """
    existing: Sessions | None = getattr(app.state, "sessions", None)
    return await existing.shut_down() if existing is not None else 0
