"""The conversation of a command: a new one, or one that goes on."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

import bargein_protocol as bp

from ..connect import connect
from ..conversations import ConversationInput, OpenedConversation, list_conversations, open_conversation
from ..errors import BargeinError, ConnectError
from ..session import ClientSession
from .terminal import escape_json, one_line

CLIENT = bp.ClientInfo(name="bargein-cli")
SLOW_AFTER_S = 2.0
SESSION_TOKEN = "BARGEIN_SESSION_TOKEN"
"""Variable with a session's own token, for servers without authentication."""

_TITLE_CHARS = 60


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The conversation that a command is for.

    Args:
        session_id: The session to go on with; None for a new one.
        session_token: The session's own token, for a server without authentication.
        keep: Whether to leave a new one on the server.
    """

    session_id: str | None = None
    session_token: str | None = None
    keep: bool = False


NEW = Choice()


@dataclass(frozen=True)
class Talk:
    """An open conversation.

    Args:
        session: The session; its `history` holds the turns before.
        inputs: The user's inputs in those, by their ids.
    """

    session: ClientSession
    inputs: Mapping[str, ConversationInput] = field(default_factory=dict)


@asynccontextmanager
async def connected(url: str, token: str | None, choice: Choice = NEW) -> AsyncIterator[Talk]:
    """Open a conversation; report at a terminal when the server is slow.

    One that goes on, or is to be kept, is left on the server at the end.

    Raises:
        BargeinError: The server does not answer, or refuses.
    """

    def report() -> None:
        if sys.stderr.isatty():
            print(f"bargein: waiting for {one_line(url)}, Ctrl-C leaves", file=sys.stderr)

    slow = asyncio.get_running_loop().call_later(SLOW_AFTER_S, report)
    resume, inputs = None, list[ConversationInput]()
    try:
        if choice.session_id is not None:
            opened = await _open(url, choice.session_id, token, choice.session_token)
            resume, inputs = opened.resume, opened.inputs
        async with connect(url, token=token, client=CLIENT, resume=resume) as session:
            slow.cancel()
            try:
                yield Talk(session, {each.input_id: each for each in inputs})
            finally:
                if choice.keep or resume is not None:
                    await _leave(session, url, token, choice)
    finally:
        slow.cancel()


async def _open(
    url: str, session_id: str, token: str | None, session_token: str | None
) -> OpenedConversation:
    try:
        return await open_conversation(url, session_id, token=token, session_token=session_token)
    except ConnectError as error:
        if error.code is bp.errors.SESSION_LOST:
            why = "it is over, or it is another user's; list yours with: bargein sessions"
        elif error.status == 403 and session_token is None:
            why = f"without a credential it needs its own token, in the variable {SESSION_TOKEN}"
        else:
            raise
        raise BargeinError(f"the conversation {session_id} cannot be opened: {why}") from None


async def _leave(session: ClientSession, url: str, token: str | None, choice: Choice) -> None:
    """Leave the session, and print the way back unless the user has it."""
    state = session.resume_state()
    await session.leave()
    if state is None or (choice.session_id is not None and token is not None):
        return
    secret = "" if token is not None else f"{SESSION_TOKEN}={shlex.quote(state.token)} "
    again = f"{secret}bargein chat {shlex.quote(url)} --session {shlex.quote(state.session_id)}"
    print(f"bargein: go on with: {one_line(again)}", file=sys.stderr)


async def print_conversations(url: str, token: str | None, *, as_json: bool) -> int:
    """Print the user's conversations, last used first; return the exit code.

    Raises:
        ConnectError: The server does not answer, or lists nothing.
    """
    for each in await list_conversations(url, token=token):
        if as_json:
            print(escape_json(msgspec.json.encode(each).decode()))
            continue
        used = datetime.fromtimestamp(each.used_at_ms / 1000).astimezone()
        title = one_line(each.title)[:_TITLE_CHARS]
        turns = f"{each.turns} turn{'s' * (each.turns != 1)}"
        print(f"{one_line(each.session_id)}  {used:%Y-%m-%d %H:%M}  {turns}  {title}".rstrip())
    return 0
