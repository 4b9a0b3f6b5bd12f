"""Endpoints for a list of conversations: list, read, rename, delete."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from bargein_protocol import SessionClose, SessionId, Token

from ..core.history import Message, conversation
from ..core.persistence import stored_turns
from ..core.records import BadRecord, Head
from ..guard.admission import RETRY_AFTER_S, Refused
from ..hosting.host import SessionHost
from ..hosting.restoring import NOTHING, Shown, admits_token
from ..stores.interface import MAX_TITLE_CHARS, ListPlace, StoredSession, StoreError, Summary, name_of
from .call import HEADERS, TOKEN_HEADER, Call, json_answer

MAX_LISTED = 100

CURSOR = r"[0-9]{1,15}(\.[0-9]{1,20})?~[A-Za-z0-9_.-]{1,256}"
"""Form of `before`: the time of the last use in seconds since 1970, and the id, of the last one listed."""


class ConversationSummary(Struct, frozen=True, kw_only=True):
    """A conversation in a list.

    Args:
        session_id: The id of its session.
        title: Its name, or the start of its first input; empty without either.
        named: Whether it was named with `PATCH /v1/sessions/{id}`.
        turns: Number of its turns.
        created_at_ms: Time of its start, in milliseconds since 1970.
        used_at_ms: Time of its last use, in milliseconds since 1970.
    """

    session_id: str
    title: str
    named: bool
    turns: int
    created_at_ms: int
    used_at_ms: int


class Conversations(Struct, frozen=True, kw_only=True):
    """Conversations of a client.

    Args:
        sessions: The conversations, the last used first.
        before: Value of the parameter `before` that returns the next ones; null after the last.
    """

    sessions: list[ConversationSummary]
    before: str | None = None


class ConversationChange(Struct, frozen=True, kw_only=True):
    """Change of a conversation.

    Args:
        title: Its new name, of at most 120 characters; null to take the name away.
    """

    title: Annotated[str, Meta(max_length=MAX_TITLE_CHARS)] | None


class Messages(Struct, frozen=True, kw_only=True):
    """Messages of a conversation.

    Args:
        session_id: The id of its session.
        messages: What was said and heard, in the shape of chat completions.
    """

    session_id: str
    messages: list[dict[str, Any]]


class ConversationInput(Struct, frozen=True, kw_only=True):
    """An input of a conversation.

    Args:
        input_id: Its id, as in the events of its turn.
        text: The user's text.
        files: Names of its attachments, or their media types without a name.
    """

    input_id: str
    text: str
    files: list[str]


class SessionToken(Struct, frozen=True, kw_only=True):
    """Token that resumes an own conversation.

    Args:
        session_id: The id of its session.
        token: The token, for `resume` in `session.open`.
        epoch: The epoch of the cursor, whose number 0 stands before the first event.
        inputs: The user's inputs, which no event repeats.
    """

    session_id: str
    token: str
    epoch: str
    inputs: list[ConversationInput]


async def list_sessions(call: Call) -> Response:
    """`GET /v1/sessions`: the client's own conversations."""
    principal = _principal(call)
    if call.sessions.keeper is None:
        raise Refused(404, "the server keeps no conversations: it has no store")
    limit, before = _number(call, "limit", MAX_LISTED), _position(call)
    if not 0 < limit <= MAX_LISTED:
        raise Refused(422, f"expected a limit from 1 to {MAX_LISTED}")
    try:
        found = await call.sessions.keeper.store.sessions(principal, limit=limit, before=before)
    except StoreError as error:
        raise _unusable(call, error, "read") from None
    listed = [
        ConversationSummary(
            session_id=each.session_id,
            title=each.title,
            named=each.named,
            turns=each.turns,
            created_at_ms=int(each.created_at * 1000),
            used_at_ms=int(each.used_at * 1000),
        )
        for each in found
    ]
    return json_answer(
        Conversations(sessions=listed, before=_cursor(found[-1]) if len(found) == limit else None)
    )


async def list_messages(call: Call) -> Response:
    """`GET /v1/sessions/{id}/messages`: the messages of an own conversation."""
    session_id = SessionId(call.request.path_params["session_id"])
    await call.forward(session_id)
    live = call.sessions.find(session_id, call.caller.principal) if _authenticated(call) else None
    messages: list[Message]
    if live is not None and _may(call, None):
        messages = live.core.side_channel.messages()
    else:
        found = await _found(call, session_id)
        messages = conversation(stored_turns(found.stored))
    return json_answer(Messages(session_id=session_id, messages=messages))


async def issue_token(call: Call) -> Response:
    """`POST /v1/sessions/{id}/token`: a token for an own conversation."""
    live = await _own_session(call)
    core, token = live.core, Token(secrets.token_urlsafe(32))
    core.identity.grant(token, call.sessions.loop.time())
    if core.persistence is not None:
        core.persistence.changes.touch_head()
    inputs = [
        ConversationInput(
            input_id=each.id,
            text=each.text,
            files=[file.name or file.media_type for file in each.attachments or ()],
        )
        for each in core.side_channel.inputs()
    ]
    epoch = core.side_channel.cursor.epoch
    return json_answer(SessionToken(session_id=live.view.id, token=token, epoch=epoch, inputs=inputs))


async def _own_session(call: Call) -> SessionHost:
    """Return the session in the path, for its user or for its token.

    On a server without authentication the token is the only proof; a follower's cookie is none.
    """
    principal, session_id = call.caller.principal, SessionId(call.request.path_params["session_id"])
    await call.forward(session_id)
    call.check_known()
    token = Token(call.request.headers.get(TOKEN_HEADER, ""))
    shown = NOTHING
    if principal is None:
        if not token:
            raise Refused(403, f"expected an authenticated client, or the session's token in {TOKEN_HEADER}")
        shown = Shown(None, token)

    def admits(head: Head) -> bool:
        if principal is None:
            return admits_token(token, None, call.sessions.wall, head)
        return head.principal == principal

    restorer = call.sessions.restorer
    if restorer is not None and await restorer.restore(session_id, admits, shown) is not None:
        raise Refused(503, "the session cannot be restored now", RETRY_AFTER_S)
    live = call.sessions.find(session_id, principal)
    if live is not None and principal is None:
        live = live if live.core.identity.proves(token, call.sessions.loop.time()) else None
    if live is None:
        raise Refused(404, "no such session, or its token is wrong")
    return live


async def change_session(call: Call) -> Response | None:
    """`/v1/sessions/{id}`, for both methods.

    One route answers a wrong method with a complete `Allow` header.
    """
    return await (rename_session if call.request.method == "PATCH" else delete_session)(call)


async def rename_session(call: Call) -> Response:
    """`PATCH /v1/sessions/{id}`: name a conversation of one's own."""
    session_id = SessionId(call.request.path_params["session_id"])
    await call.forward(session_id)
    call.check_known()
    change = await call.decoded(ConversationChange)
    keeper = call.sessions.keeper
    live = call.sessions.find(session_id, call.caller.principal)
    try:
        if live is None or not _may(call, None):
            await _found(call, session_id)
        if keeper is None:
            raise Refused(404, "the server keeps no conversations: it has no store")
        if not await keeper.store.rename(session_id, name_of(change.title or "")):
            raise Refused(503, "the store does not have the session yet", RETRY_AFTER_S)
    except StoreError as error:
        raise _unusable(call, error, "written") from None
    return Response(status_code=204, headers=HEADERS)


async def delete_session(call: Call) -> Response:
    """`DELETE /v1/sessions/{id}`: forget an own conversation for good."""
    session_id = SessionId(call.request.path_params["session_id"])
    await call.forward(session_id)
    keeper = call.sessions.keeper
    live = call.sessions.find(session_id, call.caller.principal) if _authenticated(call) else None
    try:
        if live is not None and _may(call, None):
            live.act(live.core.receive, SessionClose())
            if keeper is not None:
                await keeper.flush()
                if keeper.is_deleting(session_id):
                    return Response(status_code=202, headers=HEADERS)
        else:
            await _found(call, session_id)
            assert keeper is not None
            await keeper.store.delete(session_id)
    except StoreError as error:
        raise _unusable(call, error, "written") from None
    return Response(status_code=204, headers=HEADERS)


def _authenticated(call: Call) -> bool:
    call.check_known()
    return True


def _principal(call: Call) -> str:
    call.check_known()
    if call.caller.principal is None:
        # Without authentication all clients are one principal, and would see each other's conversations.
        raise Refused(403, "conversations are listed for authenticated clients only")
    return call.caller.principal


def _may(call: Call, head: Head | None) -> bool:
    """Return whether the client may read a conversation, by user or token."""
    if call.caller.principal is not None:
        return head is None or head.principal == call.caller.principal
    token = call.request.headers.get(TOKEN_HEADER)
    if token is None:
        raise Refused(401, f"the session's token is needed: {TOKEN_HEADER}")
    if head is not None:
        return admits_token(Token(token), None, call.sessions.wall, head)
    live = call.sessions.find(SessionId(call.request.path_params["session_id"]), None)
    return live is not None and live.core.identity.proves(Token(token), call.sessions.loop.time())


def _unusable(call: Call, error: StoreError, how: str) -> Refused:
    if call.sessions.keeper is not None:
        call.sessions.keeper.store_life.unusable(error)
    return Refused(503, f"the store cannot be {how} now", RETRY_AFTER_S)


async def _found(call: Call, session_id: SessionId) -> StoredSession:
    unknown = Refused(404, "no such session, or its token is wrong")
    keeper = call.sessions.keeper
    if keeper is None:
        raise unknown
    try:
        found = await keeper.read(session_id)
    except BadRecord:
        raise unknown from None  # as for a resume; the log has it
    except StoreError as error:
        raise _unusable(call, error, "read") from None
    if found is None or not _may(call, found.stored.head):
        raise unknown
    return found


def _cursor(last: Summary) -> str:
    return f"{last.used_at!r}~{last.session_id}"


def _position(call: Call) -> ListPlace | None:
    given = call.request.query_params.get("before")
    if given is None:
        return None
    if re.fullmatch(CURSOR, given) is None:
        raise Refused(422, "expected `before` of an earlier answer")
    used_at, _, session_id = given.partition("~")
    return float(used_at), SessionId(session_id)


def _number(call: Call, name: str, default: int) -> int:
    given = call.request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= 15):
        raise Refused(422, f"expected a number in {name}")
    return int(given)
