"""Conversations that the server keeps: their list, and a way into one.

A conversation may have begun anywhere: in a page, through a route of another protocol, or in another
program. These functions need httpx2, which is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

import bargein_protocol as bp
from bargein_protocol import ErrorEvent, errors

from .channel import OPEN_TIMEOUT_S, is_loopback
from .errors import ConnectError
from .sse_channel import INSTALL, is_available, readable, stream_errors, stream_url
from .transports import session_url

MAX_LISTED = 100
_MAX_ANSWER_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


class Conversation(Struct, frozen=True, kw_only=True):
    """A conversation in the list of its user.

    Args:
        session_id: The id of its session.
        title: Its name, or the start of its first input; empty without either.
        turns: Number of its turns.
        created_at_ms: Time of its start, in milliseconds since 1970.
        used_at_ms: Time of its last use, in milliseconds since 1970.
    """

    session_id: bp.SessionId
    title: str = ""
    turns: int = 0
    created_at_ms: int = 0
    used_at_ms: int = 0


class ConversationInput(Struct, frozen=True, kw_only=True):
    """An input of the user, which no event of the server repeats.

    Args:
        input_id: Its id, as in the events of its turn.
        text: The user's text.
        files: Names of its files, or their media types without a name.
    """

    input_id: bp.InputId
    text: str = ""
    files: list[str] = field(default_factory=list)


class OpenedConversation(Struct, frozen=True, kw_only=True):
    """The way into a conversation.

    Args:
        resume: For `connect(resume=…)`; it holds a secret.
        inputs: The user's inputs, oldest first.
    """

    resume: bp.Resume
    inputs: list[ConversationInput]


class _Listed(Struct):
    sessions: list[Conversation]


class _Granted(Struct):
    session_id: bp.SessionId
    token: bp.Token
    epoch: bp.Epoch
    inputs: list[ConversationInput]


async def list_conversations(
    url: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    limit: int = MAX_LISTED,
) -> list[Conversation]:
    """Return the user's conversations, the last used first.

    Args:
        url: The server's URL, as for `connect`.
        token: The user's credential. A server without authentication lists nothing.
        headers: Additional headers of the request.
        limit: The largest number, from 1 to 100.

    Raises:
        ConnectError: There is no answer, or a refusal: `code`, `status`.
    """
    place = f"{stream_url(session_url(url))}?limit={limit}"
    return (await _request("GET", place, _Listed, _headers(token, headers))).sessions


async def open_conversation(
    url: str,
    session_id: str,
    *,
    token: str | None = None,
    session_token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> OpenedConversation:
    """Return the way into a conversation; `connect(resume=…)` goes on with it.

    Another connection that drives it goes on until then.

    Args:
        url: The server's URL, as for `connect`.
        session_id: The id of its session.
        token: The user's credential.
        session_token: The session's own token, which takes the place of a credential on a server without
            authentication: `token` of its `resume_state()`, or the header `Bargein-Session-Token`.
        headers: Additional headers of the request.

    Raises:
        ConnectError: There is no answer, or a refusal: `code` is `session_lost` for a session that does
            not exist or is another user's.
    """
    given = _headers(token, headers)
    if session_token is not None:
        given["Bargein-Session-Token"] = session_token
    place = f"{stream_url(session_url(url))}/{quote(session_id, safe='')}/token"
    granted = await _request("POST", place, _Granted, given)
    cursor = bp.Cursor(epoch=granted.epoch, seq=bp.NO_SEQ)
    resume = bp.Resume(session_id=granted.session_id, token=granted.token, cursor=cursor)
    return OpenedConversation(resume=resume, inputs=granted.inputs)


def _headers(token: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    given = dict(headers or {})
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    return given


async def _request(method: str, url: str, kind: type[T], headers: dict[str, str]) -> T:
    if not is_available():
        raise ConnectError(url, f"the list of conversations needs httpx2: {INSTALL}")
    import httpx2

    timeout = httpx2.Timeout(OPEN_TIMEOUT_S)
    body = bytearray()
    try:
        async with (
            httpx2.AsyncClient(timeout=timeout, trust_env=not is_loopback(url)) as client,
            client.stream(method, url, headers=headers) as answer,
        ):
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_ANSWER_BYTES:
                    raise ConnectError(url, f"expected an answer of at most {_MAX_ANSWER_BYTES} bytes")
            status = answer.status_code
    except stream_errors() as error:
        raise ConnectError(url, readable(error)) from None
    except UnicodeError:
        raise ConnectError(url, "expected headers of ASCII characters") from None
    if status != HTTPStatus.OK:
        raise refusal(url, status, bytes(body))
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ConnectError(url, "expected an answer of a bargein server, got another one") from None


def refusal(url: str, status: int, body: bytes) -> ConnectError:
    """Return the error for a response that refuses a request.

    Args:
        url: The URL of the request.
        status: Its HTTP status.
        body: The body of the response: an `error` event, or anything.
    """
    why = f"the server answered with HTTP status {status}"
    name = ""
    try:
        event = msgspec.json.decode(body, type=ErrorEvent)
        why, name = event.message or why, event.code
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass  # from a proxy
    code = next((row for row in errors.CODES if row.name == name), None)
    return ConnectError(url, why, code=code, status=status)
