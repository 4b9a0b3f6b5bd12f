"""`bargein chat`: a conversation, whatever shows it; and the form that reads lines from a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import bargein_protocol as bp

from .errors import BargeinError, InputRejected, RequestRefused, SessionClosed, TooLarge, TooManyPending
from .notices import Notices
from .oneshot import on_sigint
from .screen import PlainScreen, Screen
from .session import ClientSession, connect
from .turn import ClientTurn
from .view import TurnView

LEAVE_WITHIN_S = 2.0
CLIENT = bp.ClientInfo(name="bargein-cli")


class Chat:
    """A conversation with one agent.

    Args:
        session: With whom.
        screen: Where it is shown.
        leave: Called when the user wants to go.
    """

    def __init__(self, session: ClientSession, screen: Screen, leave: Callable[[], None]) -> None:
        self._session = session
        self._screen = screen
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._pressed_at = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._shown: asyncio.Task[None] | None = None
        self._turn: ClientTurn | None = None
        self._view: TurnView | None = None

    async def run(self) -> None:
        """Tell the news of the session until it is over, then raise why when it was not asked for."""
        await Notices(self._screen).follow(self._session.events())
        await self._session.closed()

    @property
    def busy(self) -> bool:
        """Whether a turn runs or waits."""
        return self._shown is not None and not self._shown.done()

    def say(self, text: str) -> None:
        """Take what the user said; it interrupts what runs."""
        text = text.strip()
        if not text:
            return
        if text in ("/yes", "/no") and self._view is not None and self._view.asked and self._turn is not None:
            call_id = self._view.asked.pop(0)
            self._spawn(self._turn.tool_decision(call_id, allow=text == "/yes"))
            return
        if self.busy and self._view is not None:
            self._view.cut()
        self._screen.line("user", f"> {text}")
        try:
            self._turn = self._session.submit(text, on_busy="interrupt")
        except (SessionClosed, TooLarge, TooManyPending) as error:
            self._screen.line("mark", str(error))
            return
        self._shown = self._spawn(self._show(self._turn, text, self._shown))

    def press_break(self) -> None:
        """Take a Ctrl-C: it stops what runs, and pressed again soon it leaves.

        With nothing running it does not leave at once: the answer may have ended under the finger.
        """
        now = self._loop.time()
        again = now - self._pressed_at < LEAVE_WITHIN_S
        self._pressed_at = now
        turn = self._session.current
        if again:
            self._leave()
        elif not self.busy or turn is None:
            self._screen.line("note", "Ctrl-C again leaves")
        else:
            if self._view is not None:
                self._view.cut()
            self._spawn(self._interrupt(turn))

    async def idle(self) -> None:
        """Wait until every turn has been shown to its end."""
        while self._shown is not None and not self._shown.done():
            await asyncio.wait([self._shown])

    async def stop(self) -> None:
        """Stop showing."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _show(self, turn: ClientTurn, text: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._view = TurnView(self._screen)
        self._screen.status("waiting")
        try:
            try:
                await turn.accepted()
            except InputRejected as refused:
                if refused.code != "session_lost":
                    raise
                # Nothing was applied of what the lost session did not answer, so it may be said again.
                self._turn = turn = self._session.submit(text, on_busy="interrupt")
            async for event in turn:
                self._view.show(event)
        except RequestRefused as refused:
            self._screen.line("mark", str(refused))
        except BargeinError:
            self._screen.end_line()  # the session is over; `run` says why
        finally:
            self._screen.status(None)

    async def _interrupt(self, turn: ClientTurn) -> None:
        try:
            await turn.interrupt()
        except BargeinError as error:
            self._screen.line("mark", str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def chat_lines(url: str, token: str | None) -> int:
    """Answer lines from standard input, one after the other, to its end.

    At a terminal a line interrupts what runs; from a pipe each waits for the answer before it.
    """
    screen = PlainScreen()
    async with connect(url, token=token, client=CLIENT) as session:
        left = asyncio.Event()
        chat = Chat(session, screen, left.set)
        running = asyncio.create_task(chat.run())
        talking = asyncio.create_task(_talk(chat, wait=not sys.stdin.isatty()))
        leaving = asyncio.create_task(left.wait())
        with on_sigint(chat.press_break):
            try:
                await asyncio.wait([running, talking, leaving], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (running, talking, leaving):
                    if not task.done():
                        task.cancel()
                await chat.stop()
                await asyncio.wait([running, talking, leaving])
        if not running.cancelled():
            running.result()
        return 130 if left.is_set() else 0


async def _talk(chat: Chat, *, wait: bool) -> None:
    lines = read_lines()
    while (line := await lines.get()) is not None:
        chat.say(line)
        if wait:
            await chat.idle()
    await chat.idle()


def read_lines() -> asyncio.Queue[str | None]:
    """Read standard input in a thread; None marks its end.

    The thread reads the descriptor itself: one that waits in `sys.stdin` holds a lock that the
    interpreter wants when it ends. Pipes could be read by the loop, files and terminals not everywhere.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    def put(line: str | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody wants it
            loop.call_soon_threadsafe(queue.put_nowait, line)

    def read() -> None:
        rest = b""
        while data := os.read(sys.stdin.fileno(), 65_536):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                put(line.decode(errors="replace"))
        if rest:
            put(rest.decode(errors="replace"))
        put(None)

    threading.Thread(target=read, name="bargein-stdin", daemon=True).start()
    return queue
