"""`bargein chat` for pipes, and for terminals without a fixed prompt."""

from __future__ import annotations

import asyncio
import sys

from .chat import Chat
from .consent import REFUSED_EXIT_CODE, Policy
from .conversation import NEW, Choice, connected
from .lines import read_lines
from .oneshot import on_sigint
from .screen import PlainScreen


async def chat_lines(
    url: str,
    token: str | None,
    *,
    policy: Policy | None = None,
    as_json: bool = False,
    choice: Choice = NEW,
) -> int:
    """Answer the lines of standard input.

    At a terminal a line interrupts the running turn; from a pipe each line waits for the answer to the
    line before it.

    Args:
        url: URL of the server's socket.
        token: A credential.
        policy: Answer to tool calls that wait for this client; None asks at a terminal and refuses elsewhere.
        as_json: Whether to print events in place of the answers.
        choice: The conversation.

    Returns:
        The exit code: 130 after Ctrl-C, 1 when a line of a pipe was refused, 3 when tools were refused
        because there was no terminal to ask, else 0.
    """
    screen = PlainScreen()
    at_terminal = sys.stdin.isatty()
    async with connected(url, token, choice) as talk:
        session = talk.session
        left = asyncio.Event()
        chat = Chat(
            session,
            screen,
            left.set,
            policy=policy or ("ask" if at_terminal else "refuse"),
            as_json=as_json,
        )
        chat.go_on(talk.inputs, "note", is_shown=at_terminal and not as_json)
        running = asyncio.create_task(chat.run())
        talking = asyncio.create_task(_talk(chat, wait=not at_terminal))
        leaving = asyncio.create_task(left.wait())
        with on_sigint(chat.press_break):
            try:
                await asyncio.wait([running, talking, leaving], return_when=asyncio.FIRST_COMPLETED)
                if as_json and talking.done() and not running.done():
                    await session.close()  # the stream of events ends behind the last one
                    await asyncio.wait([running])
            finally:
                for task in (running, talking, leaving):
                    if not task.done():
                        task.cancel()
                await chat.stop()
                await asyncio.wait([running, talking, leaving])
        if not running.cancelled():
            running.result()
        if left.is_set():
            return 130
        if chat.refused and not at_terminal:
            return 1
        return REFUSED_EXIT_CODE if chat.consent.refused else 0


async def _talk(chat: Chat, *, wait: bool) -> None:
    lines = read_lines()
    while (line := await lines.get()) is not None:
        chat.send(line)
        if wait:
            await chat.idle()
    await chat.idle()
