"""Puts the parts together: `create_app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from .agent import Agent, check_agent
from .endpoints.websocket import serve_session
from .settings import Settings
from .shell.sessions import Sessions

SESSION_PATH = "/v1/session"


def create_app(agent: Agent, settings: Settings | None = None) -> Starlette:
    """Return a Starlette application that serves an agent: mount it, test it, or give it to uvicorn.

    Under `bargein-server`, or with `uvicorn.Config(ws=BargeinProtocol)`, connections go straight to
    the transport; under any other server they use plain ASGI.

    An agent's `startup()` and `shutdown()` are awaited in the application's lifespan. Starlette does
    not run the lifespan of an application that is mounted in another.

    Args:
        agent: See `bargein_server.Agent`.
        settings: The limits.

    Raises:
        NotAnAgent: `agent` is not an async generator function.
    """
    check_agent(agent)
    limits = settings if settings is not None else Settings()

    def sessions(app: Starlette) -> Sessions:
        # Made by the first who asks inside the event loop: a mounted application has no lifespan.
        existing: Sessions | None = getattr(app.state, "sessions", None)
        if existing is None:
            existing = app.state.sessions = Sessions(agent, limits)
        return existing

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
            if shutdown is not None:
                await shutdown()

    async def session_endpoint(websocket: WebSocket) -> None:
        await serve_session(websocket, sessions(app))

    app = Starlette(routes=[WebSocketRoute(SESSION_PATH, session_endpoint)], lifespan=lifespan)
    return app


async def shut_down_sessions(app: Starlette) -> int:
    """End every turn of an application with `failed` and `shutdown`, within the bound of the cleanups.

    Returns:
        How many tasks of turns have not ended all the same.
    """
    existing: Sessions | None = getattr(app.state, "sessions", None)
    return await existing.shut_down() if existing is not None else 0
