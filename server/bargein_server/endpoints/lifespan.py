"""Lifespan of an application, with the agent's startup and shutdown.

Both are code of an author, so their time is bounded and a signal cuts them short. A server would otherwise
neither start nor end, however often it is asked to.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import Context, copy_context
from typing import Any

from starlette.applications import Starlette
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from ..agent import AgentNotStarted, Contained
from ..hosting.registry import SessionRegistry
from ..hosting.stopping import Stopping, wait_until
from ..settings import Settings

log = logging.getLogger("bargein.server")

STORE_OPENS_S = 10.0
"""Time that a start waits for the store, which may have to bring its records to a new version."""

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


def lifespan(
    agent: object, settings: Settings, open_registry: Callable[[Context], SessionRegistry]
) -> Lifespan[Starlette]:
    """Return the lifespan of an application.

    Args:
        agent: The agent.
        settings: The limits.
        open_registry: Returns the registry of the running loop; its argument is the context of turns.
    """

    @asynccontextmanager
    async def run_agent(app: Starlette) -> AsyncIterator[None]:
        registry = open_registry(copy_context())
        life = AgentLife(agent, settings, registry.stopping)
        if registry.keeper is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STORE_OPENS_S):
                    await registry.keeper.opened.wait()
        await life.start()
        try:
            yield
        finally:
            await registry.shut_down()
            await life.stop()
            app.state.sessions = None

    return run_agent


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
