"""Lifespan of an application, with the agent's startup and shutdown.

Both are code of an author, so their time is bounded and a signal cuts them short. A server would otherwise
neither start nor end, however often it is asked to.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sized
from contextlib import asynccontextmanager, suppress
from contextvars import Context, copy_context
from typing import Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from bargein_protocol.errors import RESTART

from ..agent import AgentNotStarted, Contained
from ..guard.admission import RETRY_AFTER_S, Refused
from ..hosting.model_calls import prepare_model_calls
from ..hosting.registry import SessionRegistry
from ..hosting.stopping import Stopping, wait_until
from ..settings import Settings
from .probes import HEALTH_PATH, READY_PATH
from .signals import drain_at_signals
from .websocket import deny

log = logging.getLogger("bargein.server")

STORE_OPENS_S = 10.0
"""Time that a start waits for the store, which may have to bring its records to a new version."""

_LEAVES_S, _LOOKS_S = 2.0, 0.05
"""Time for which closed connections may write on, and time between two looks at them."""

_NO_LIFESPAN = (
    "the application's lifespan does not run: the agent starts with the first request, and nothing drains "
    "or stops it at the end; enter bargein_server.lifespan(app) in the lifespan of the outer application"
)

Hook = Callable[[], Coroutine[Any, Any, object]]


class AgentLife:
    """Task in which an agent starts and stops.

    It is one task, because a task group that `startup()` enters must be left by the same task.

    Args:
        agent: The agent, or another object with its `startup()` and `shutdown()`.
        settings: The limits.
        stopping: Requests to stop, which cut the waits short.
    """

    def __init__(self, agent: object, settings: Settings, stopping: Stopping) -> None:
        self._startup: Hook | None = getattr(agent, "startup", None)
        self._shutdown: Hook | None = getattr(agent, "shutdown", None)
        self._settings = settings
        self._stopping = stopping
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(Contained(self._run()), name="startup and shutdown")

    async def _run(self) -> None:
        if self._startup is not None:
            await self._startup()
        self._started.set()
        try:
            await self._stop.wait()
        finally:
            if self._shutdown is not None:
                await self._shutdown()

    async def start(self) -> None:
        """Wait for `startup()`.

        Raises:
            AgentNotStarted: It took too long, or the server was asked to stop.
            Exception: Its error.
        """
        asked, startup_s = self._stopping.asked, self._settings.startup_s
        started = asyncio.create_task(self._started.wait())
        try:
            await wait_until([self._task, started], startup_s, asked, asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
            if not self._started.is_set():
                await self._cancel()
        if self._started.is_set():
            return
        if self._task.done() and not self._task.cancelled():
            await self._task  # raises its error
        if asked.is_set():
            raise AgentNotStarted("the server was asked to stop before the agent's startup() had ended")
        raise AgentNotStarted(
            f"the agent's startup() took longer than {startup_s:g} s; if it needs more, "
            "set --startup-s or BARGEIN_STARTUP_S"
        )

    async def stop(self) -> None:
        """Run `shutdown()`; its error propagates."""
        self._stop.set()
        try:
            await wait_until([self._task], self._settings.shutdown_s, self._stopping.hurried)
        finally:
            in_time = self._task.done()
            await self._cancel()
        if in_time and not self._task.cancelled():
            await self._task
        elif not in_time:
            log.warning(
                "the agent's shutdown() was cancelled after %g s or by a second signal; if it needs more, "
                "set --shutdown-s or BARGEIN_SHUTDOWN_S",
                self._settings.shutdown_s,
            )

    async def _cancel(self) -> None:
        """Cancel the task and wait for a bounded time: it may swallow that."""
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=self._settings.cleanup_kill_s)


class Starter:
    """Starts and stops an application's agent, once in each event loop.

    Args:
        agent: The agent.
        settings: The limits.
        open_registry: Returns the registry of the running loop; its argument is the context of turns.
        context: Context of the agent's `startup()` when the application's lifespan does not run.
    """

    def __init__(
        self,
        agent: object,
        settings: Settings,
        open_registry: Callable[[Context | None], SessionRegistry],
        context: Context,
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._open_registry = open_registry
        self._context = context
        self._registry: SessionRegistry | None = None
        self._life: AgentLife | None = None
        self._starting: asyncio.Task[None] | None = None
        self._again_at = 0.0
        self._warned = False

    @property
    def started(self) -> bool:
        """Whether the agent has started in the running loop."""
        registry = self._registry
        return registry is not None and registry.loop is asyncio.get_running_loop()

    async def start(self, context: Context | None = None) -> SessionRegistry:
        """Open the store, and wait for `startup()` in the current context.

        Args:
            context: Context of the turns; None for that of the application.

        Raises:
            AgentNotStarted: It took too long, or the server was asked to stop.
            Exception: Its error.
        """
        registry = self._open_registry(context)
        life = AgentLife(self._agent, self._settings, registry.stopping)
        if registry.keeper is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STORE_OPENS_S):
                    await registry.keeper.opened.wait()
        prepare_model_calls()
        await life.start()
        self._life, self._registry = life, registry
        return registry

    async def start_late(self) -> None:
        """Wait for the start by a first request, because no lifespan runs.

        Cancelling it leaves the start alone, which other requests wait for.

        Raises:
            Refused: The agent did not start; the log has the cause.
        """
        loop = asyncio.get_running_loop()
        if self._starting is None or self._starting.get_loop() is not loop:
            if loop.time() < self._again_at:
                raise Refused(503, "the agent did not start", RETRY_AFTER_S)
            if not self._warned:
                log.warning(_NO_LIFESPAN)
                self._warned = True
            late = self._start_late()
            self._starting = loop.create_task(late, name="late start", context=self._context.copy())
        await asyncio.wait([self._starting])
        if not self.started:
            raise Refused(503, "the agent did not start", RETRY_AFTER_S)

    async def _start_late(self) -> None:
        try:
            await self.start()
        except Exception as error:
            # The boundary to the author's code: the server goes on, and a later request tries again.
            known = isinstance(error, AgentNotStarted)
            log.error(
                "the agent did not start: %s", error if known else "startup() failed", exc_info=not known
            )
            self._again_at = asyncio.get_running_loop().time() + RETRY_AFTER_S
        finally:
            self._starting = None

    async def stop(self) -> None:
        """End the sessions, then run `shutdown()`; its error propagates."""
        registry, life = self._registry, self._life
        self._registry = self._life = None
        try:
            if registry is not None:
                await registry.shut_down()
        finally:
            if life is not None:
                await life.stop()


async def _left(connections: Sized) -> None:
    """Wait for a bounded time until connections have written all, and ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LEAVES_S):
            while connections:
                await asyncio.sleep(_LOOKS_S)
            await asyncio.sleep(_LOOKS_S)  # a server writes in a thread of its own


def agent_lifespan(starter: Starter) -> Lifespan[Starlette]:
    """Return the lifespan in which an application's agent starts and stops."""

    @asynccontextmanager
    async def run_agent(app: Starlette) -> AsyncIterator[None]:
        if starter.started:  # an outer application has entered it already
            yield
            return
        registry = await starter.start(copy_context())

        async def drain() -> None:
            await registry.shut_down()
            for host in registry:
                if host.connection is not None:
                    host.connection.close(RESTART)
            await _left(app.state.admission.connections)

        try:
            with drain_at_signals(drain, registry.stopping.hurried.set):
                yield
        finally:
            await starter.stop()
            app.state.sessions = None

    return run_agent


class LateStart:
    """ASGI middleware that starts the agent at the first request, if need be.

    Args:
        app: The application.
        starter: Starts the agent.
        refuse: Returns the response for a request that cannot be served.
    """

    def __init__(self, app: ASGIApp, starter: Starter, refuse: Callable[[Refused], Response]) -> None:
        self._app = app
        self._starter = starter
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass all on; requests for sessions wait for the agent's start."""
        if scope["type"] != "lifespan" and not self._starter.started and _is_for_sessions(scope):
            try:
                await self._starter.start_late()
            except Refused as refused:
                response = self._refuse(refused)
                if scope["type"] == "websocket":
                    await deny(WebSocket(scope, receive, send), response)
                else:
                    await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_for_sessions(scope: Scope) -> bool:
    """Return whether a request needs the agent, as page and probes do not."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path not in ("", "/", HEALTH_PATH, READY_PATH) and not path.startswith("/static/")


class ShortFailures:
    """ASGI middleware that reports `AgentNotStarted` in one line.

    Starlette sends the traceback of a failed start or stop to the server, which logs it. `AgentNotStarted`
    has its cause and remedy in its message. A lifespan is cancelled when a server is told not to wait.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, apart from the messages of such failures."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_short(message: Message) -> None:
            error = sys.exception()
            if message["type"].endswith(".failed"):
                if isinstance(error, AgentNotStarted):
                    message = {**message, "message": str(error)}
                elif isinstance(error, asyncio.CancelledError):
                    message = {**message, "message": ""}
            await send(message)

        await self._app(scope, receive, send_short)
