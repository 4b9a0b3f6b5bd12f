"""The Starlette application: routes, middleware and lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

from msgspec import json
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from .agent import Agent, HistorySource, check_agent
from .endpoints import conversations, http
from .endpoints.asyncapi import asyncapi
from .endpoints.call import (
    COOKIE_HEADER,
    CURSOR_HEADER,
    SESSION_HEADER,
    TOKEN_HEADER,
    Call,
    denial,
)
from .endpoints.doors.operations import door_operations
from .endpoints.doors.table import DoorName, door_routes
from .endpoints.endpoint import Handler, HttpEndpoint
from .endpoints.lifespan import LateStart, ShortFailures, Starter, agent_lifespan
from .endpoints.openapi import openapi
from .endpoints.page import Page, appearance, page_folder
from .endpoints.probes import gauges, probes
from .endpoints.sites import remember
from .endpoints.websocket import answer_ticket, deny, serve_session
from .guard.admission import TRACE_HEADERS, Admission, Refused
from .guard.authentication import Authenticator
from .guard.origins import allowed_origins
from .hosting.registry import SessionRegistry
from .page_configuration import PageConfiguration
from .settings import Settings
from .stores.interface import Store
from .stores.shared import SharedStore
from .stores.urls import store_of
from .telemetry.setup import set_up
from .voice.interfaces import VoiceParts
from .voice.parts import VoiceLife, spoken_by

if TYPE_CHECKING:
    from .telemetry.metrics import Metrics

SESSION_PATH = "/v1/session"
TICKET_PATH = "/v1/tickets"
OPENAPI_PATH, ASYNCAPI_PATH = "/v1/openapi.json", "/v1/asyncapi.json"


def create_app(
    agent: Agent,
    settings: Settings | None = None,
    *,
    authenticator: Authenticator | None = None,
    origins: Collection[str] = (),
    store: str | Store | None = None,
    history: HistorySource | None = None,
    doors: Collection[DoorName] = (),
    voice: VoiceParts | None = None,
    page: PageConfiguration | None = None,
) -> Starlette:
    """Return a Starlette application that serves an agent.

    Under `run`, `bargein-server` or `uvicorn.Config(ws=BargeinProtocol)`, connections use the transport
    directly; under any other server they use ASGI. With the transport, the application returns when a
    session's WebSocket is attached and not when it ends, which middleware around it observes.

    An agent's `startup()` and `shutdown()` are awaited in the application's lifespan. An application that is
    mounted in another needs `lifespan` for it; without, the agent starts with the first request.

    Args:
        agent: The agent to serve; see `bargein_server.Agent`.
        settings: Limits, timeouts and switches; None for the defaults.
        authenticator: Authenticates clients: an async function of an `AccessRequest`, or an object such as
            `BearerTokens`; None admits every client. See docs/users.md.
        origins: Web origins, such as `https://example.com`, whose pages may connect, beside the
            server's own.
        store: Where conversations are kept when the process ends, such as `sqlite:///bargein.db`; None to
            keep them in memory only. See docs/store.md.
        history: The application's own history, which seeds a session and gets its turns; None without one.
        doors: Other protocols to serve, such as `chat` for OpenAI's chat completions. See docs/doors.
        voice: Parts that make the server hear, and the agent speak; None for text alone. See docs/voice.md.
        page: Appearance of the chat page; None for its own. See clients/web/docs/page.md.

    Raises:
        BadAuthenticator: `authenticator` can be called in no way.
        BadOrigin: One of `origins` is no origin.
        BadStore: `store` is a text that names no store.
        NotAnAgent: `agent` is not an async generator function.
        NotInstalled: `metrics` or `traces` is set, and a package for it is missing.
        UnknownDoor: There is no door of a name in `doors`.
    """
    check_agent(agent)
    limits = settings if settings is not None else Settings()
    served = agent if voice is None else spoken_by(agent, voice, limits.speak_ahead_s)
    life = served if voice is None else VoiceLife(served, voice)
    kept_in = store_of(store, keep_s=limits.keep_s) if isinstance(store, str) else store
    admission = Admission(limits, authenticator, origins, lambda: asyncio.get_running_loop().time())

    # The registry is made on first use in the event loop, because a mounted application may have no lifespan.
    # The context of turns is taken here, because that use may be a request, whose values are of one user.
    context = copy_context()

    def sessions(of_startup: Context | None = None) -> SessionRegistry:
        existing: SessionRegistry | None = getattr(app.state, "sessions", None)
        if existing is None or existing.loop is not asyncio.get_running_loop():
            existing = app.state.sessions = SessionRegistry(
                served, limits, telemetry, of_startup or context, kept_in, history,
                getattr(app.state, "node", None), voice,
            )  # fmt: skip
        return existing

    _share_tickets(admission, kept_in, sessions)
    telemetry, metrics = set_up(limits, lambda: gauges(sessions()), lambda: admission.refusals)
    starter = Starter(life, limits, sessions, context)
    look = _look(page, authenticator is not None and kept_in is not None)
    document = _document(OPENAPI_PATH, partial(openapi, tuple(door_operations(doors))))
    own = [look, *door_routes(doors, sessions, admission, agent_name(agent)), document]
    app = Starlette(
        routes=_routes(sessions, admission, metrics, own),
        middleware=_middleware(starter, admission, origins, bool(doors)),
        lifespan=agent_lifespan(starter),
    )
    app.state.admission, app.state.settings, app.state.store = admission, limits, store
    app.state.starter, app.state.metrics = starter, metrics
    remember(app)
    return app


def _middleware(
    starter: Starter, admission: Admission, origins: Collection[str], any_header: bool
) -> list[Middleware]:
    return [
        Middleware(ShortFailures),
        *([_cors(allowed_origins(origins), any_header)] if origins else []),
        Middleware(LateStart, starter=starter, refuse=lambda refused: denial(refused, admission)),
    ]


def _share_tickets(
    admission: Admission, store: Store | None, sessions: Callable[[], SessionRegistry]
) -> None:
    """Keep tickets in a store that many servers share."""

    def answers() -> bool:
        keeper = sessions().keeper
        return keeper is not None and keeper.health.answers_in_time

    if isinstance(store, SharedStore):
        admission.share_tickets(store, answers)


def _look(page: PageConfiguration | None, lists: bool) -> Route:
    """Return the route of the page's appearance."""
    return Route("/page.json", appearance(page or PageConfiguration(), lists))


def agent_name(agent: Agent) -> str:
    """Return the name of an agent's function or class."""
    return str(getattr(agent, "__name__", type(agent).__name__))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Start, drain and stop an application that is mounted in another one.

    Enter it in the lifespan of the outer application; see docs/embedding.md:

        site = FastAPI(lifespan=lambda site: lifespan(chat))
        site.mount("/chat", chat)

    Entering it opens the store and awaits the agent's `startup()`. Inside, SIGTERM and SIGINT reach the
    server of the process when the running turns have ended, or after `drain_s`. Leaving it ends all turns and
    awaits `shutdown()`. Entering it twice is harmless.

    Args:
        app: The application of `create_app`.

    Raises:
        Exception: The error of the agent's `startup()` or `shutdown()`.
    """
    async with app.router.lifespan_context(app):
        yield


def _routes(
    sessions: Callable[[], SessionRegistry],
    admission: Admission,
    metrics: Metrics | None,
    own: Sequence[BaseRoute],
) -> list[BaseRoute]:
    async def session_endpoint(websocket: WebSocket) -> None:
        await serve_session(websocket, sessions(), admission)

    async def ticket_endpoint(request: Request) -> Response:
        return await answer_ticket(request, admission)

    page = _page()
    return [
        Route("/", page.index),
        Route("/static/{path:path}", page.file),
        WebSocketRoute(SESSION_PATH, session_endpoint),
        Route(TICKET_PATH, ticket_endpoint, methods=["POST"]),
        *_http_routes(sessions, admission),
        *own,
        *probes(sessions, admission, metrics),
        _document(ASYNCAPI_PATH, asyncapi),
        WebSocketRoute("/{path:path}", partial(_no_session_here, admission)),
    ]


async def _no_session_here(admission: Admission, websocket: WebSocket) -> None:
    """Refuse a handshake for another path with 404; Starlette answers 403."""
    await deny(websocket, denial(Refused(404, f"sessions are at {SESSION_PATH}"), admission))


@cache
def _page() -> Page:
    """Return the page's files, read once for all applications of a process."""
    return Page(page_folder())


def _http_routes(sessions: Callable[[], SessionRegistry], admission: Admission) -> Iterator[Route]:
    handler: Handler
    for path, methods, handler in (
        ("/v1/turns", ("POST",), http.start_turn),
        ("/v1/batch", ("POST",), http.answer_batch),
        ("/v1/sessions", ("GET", "POST"), _sessions),
        ("/v1/sessions/{session_id}", ("DELETE", "PATCH"), conversations.change_session),
        ("/v1/sessions/{session_id}/token", ("POST",), conversations.issue_token),
        ("/v1/sessions/{session_id}/messages", ("GET",), conversations.list_messages),
        ("/v1/sessions/{session_id}/interrupt", ("POST",), http.interrupt_turn),
        ("/v1/sessions/{session_id}/events", ("GET", "POST"), http.session_events),
    ):
        yield Route(path, HttpEndpoint(sessions, admission, handler), methods=methods)


async def _sessions(call: Call) -> Response | None:
    """One route for both methods, so that `Allow` is complete."""
    if call.request.method == "POST":
        await http.open_session(call)
        return None
    return await conversations.list_sessions(call)


def _cors(origins: Collection[str], any_header: bool) -> Middleware:
    """Return the CORS middleware for pages of these origins.

    The clients of doors have headers of their own, so these may send any.
    """
    return Middleware(
        CORSMiddleware,
        allow_origins=tuple(origins),
        allow_credentials="*" not in origins,
        allow_methods=("GET", "POST", "PATCH", "DELETE"),
        allow_headers=(
            "Authorization",
            "Content-Type",
            "Last-Event-ID",
            COOKIE_HEADER,
            TOKEN_HEADER,
            *TRACE_HEADERS,
            *(("*",) if any_header else ()),
        ),
        expose_headers=("Retry-After", SESSION_HEADER, TOKEN_HEADER, CURSOR_HEADER),
    )


def _document(path: str, make: Callable[[], dict[str, Any]]) -> Route:
    @lru_cache(maxsize=4)  # an application may be mounted under a path that the client chooses
    def text(root_path: str) -> bytes:
        document = make()
        if root_path and "openapi" in document:
            document["servers"] = [{"url": root_path}]
        return json.encode(document)

    async def show(request: Request) -> Response:
        return Response(text(request.scope.get("root_path", "")), media_type="application/json")

    return Route(path, show)


class UnderPrefix:
    """ASGI middleware for an application that a proxy publishes under a path.

    The proxy keeps the path in its requests, or it strips it. Both are served alike.

    Args:
        app: The application.
        prefix: The path, such as `/chat`, without a slash at its end.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request with the prefix in its path and in `root_path`."""
        prefix = self._prefix
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == prefix:
            # The links of the page are relative to its folder.
            await RedirectResponse(f"{prefix}/")(scope, receive, send)
        else:
            path: str = scope["path"]
            stripped = "" if path.startswith(f"{prefix}/") else prefix
            await self._app({**scope, "root_path": prefix, "path": stripped + path}, receive, send)


async def shut_down_sessions(app: Starlette) -> int:
    """End all turns of an application with `failed` and `shutdown`.

    It takes at most the time of `drain_s` and of a cleanup.

    Returns:
        Number of tasks of turns that did not end.
    """
    existing: SessionRegistry | None = getattr(app.state, "sessions", None)
    return await existing.shut_down() if existing is not None else 0


def request_stop(app: Starlette, *, urgent: bool) -> None:
    """Stop starting, or stop waiting for turns and the agent's `shutdown()`.

    It may be called from a signal handler.

    Args:
        app: The application.
        urgent: Whether this is the second request.
    """
    existing: SessionRegistry | None = getattr(app.state, "sessions", None)
    if existing is not None:
        event = existing.stopping.hurried if urgent else existing.stopping.asked
        existing.loop.call_soon_threadsafe(event.set)
