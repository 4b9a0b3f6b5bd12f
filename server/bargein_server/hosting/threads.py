"""Threads for blocking functions of authors, such as plain tools.

A thread cannot be killed: after an interrupt it blocks on. The executor of the event loop has a handful of
threads for the whole process, which also look up host names, and the interpreter waits for them when it
exits. So authors have threads of their own: a session that blocks all of its threads delays itself alone,
a call does not wait for ever, and the process ends without them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from bargein_protocol import SessionId

from ..agent import NoThreadFree
from ..core.author_code import call_contained
from ..settings import Settings

T = TypeVar("T")

log = logging.getLogger("bargein.server")


class _Call:
    __slots__ = ("function", "future", "timer")

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.future = future
        self.timer: asyncio.TimerHandle | None = None


class AuthorThreads:
    """Threads of all sessions; each call has one of its own while it runs.

    Args:
        loop: The event loop, on whose thread the methods are called.
        settings: The limits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._busy: Counter[SessionId] = Counter()
        self._waiting: dict[SessionId, deque[_Call]] = {}

    @property
    def busy(self) -> int:
        """Number of running threads, including those whose turns have ended."""
        return self._busy.total()

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a thread."""
        return sum(map(len, self._waiting.values()))

    def run(self, session_id: SessionId, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function in a thread of a session.

        Returns:
            The result. It fails with `NoThreadFree` when no thread was free within `thread_wait_s`, and
            with the function's error; `SystemExit` is an `AuthorExit`. Cancelling it before a thread was
            free leaves the function out.
        """
        call = _Call(function, self._loop.create_future())
        if self._is_free(session_id):
            self._start(session_id, call)
        else:
            self._waiting.setdefault(session_id, deque()).append(call)
            wait_s = self._settings.thread_wait_s
            call.timer = self._loop.call_later(wait_s, self._expire, session_id, call)
            call.future.add_done_callback(lambda _: self._leave(session_id, call))
        return call.future

    def _is_free(self, session_id: SessionId) -> bool:
        settings = self._settings
        return (
            self._busy[session_id] < settings.max_threads_per_session
            and self._busy.total() < settings.max_threads
        )

    def _start(self, session_id: SessionId, call: _Call) -> None:
        thread = threading.Thread(
            target=self._work, args=(session_id, call), name=f"author of {session_id}", daemon=True
        )
        self._busy[session_id] += 1
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            self._ended(session_id, call, None, NoThreadFree(str(error)))

    def _work(self, session_id: SessionId, call: _Call) -> None:
        result, failure = None, None
        try:
            result = call_contained(call.function)
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the result
            self._loop.call_soon_threadsafe(self._ended, session_id, call, result, failure)
        del call, failure  # this frame is in the error's traceback: a cycle

    def _ended(self, session_id: SessionId, call: _Call, result: Any, error: BaseException | None) -> None:
        self._busy[session_id] -= 1
        if not self._busy[session_id]:
            del self._busy[session_id]
        if not call.future.done():
            if error is None:
                call.future.set_result(result)
            else:
                call.future.set_exception(error)
        self._start_next(session_id)

    def _start_next(self, session_id: SessionId) -> None:
        """Start a waiting call, of the session whose thread is free if any."""
        for waiting in (session_id, *self._waiting):
            if waiting in self._waiting and self._is_free(waiting):
                call = self._waiting[waiting][0]
                self._leave(waiting, call)
                self._start(waiting, call)
                return

    def _leave(self, session_id: SessionId, call: _Call) -> None:
        """Take a call out of the line, if it is in it."""
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
            calls = self._waiting[session_id]
            calls.remove(call)
            if not calls:
                del self._waiting[session_id]

    def _expire(self, session_id: SessionId, call: _Call) -> None:
        wait_s = self._settings.thread_wait_s
        log.warning(
            "no thread was free for a call of session %s within %g s: its threads are blocked, or all are; "
            "see --max-threads-per-session and --max-threads",
            session_id,
            wait_s,
        )
        self._leave(session_id, call)
        call.future.set_exception(NoThreadFree(f"no thread was free within {wait_s:g} s"))


def check_loop(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Check that the running event loop is that of the turn.

    A session has no locks: from another thread, events would be numbered twice and out of order.

    Args:
        loop: Event loop of the turn.
        name: The method that was called, for the message.

    Raises:
        RuntimeError: It is called from another thread, or from another event loop.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not loop:
        raise RuntimeError(
            f"{name} was called outside the event loop of its turn, such as from a thread: send output from "
            "threads with bargein_server.streams.from_callbacks, and call anything else with "
            "loop.call_soon_threadsafe or asyncio.run_coroutine_threadsafe"
        )
