"""Conversations of clients that send all messages with every request.

A request is brought into a session in one step: turns that the client no longer has are dropped from the end,
messages that the session lacks become its seed, and the input gets its turn. The history of a turn is the
session's own, so it has what was heard, and the results of tools.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from bargein_protocol import (
    ErrorEvent,
    InputId,
    InputRejected,
    InputText,
    Interrupt,
    InterruptId,
    RewindId,
    Seq,
    SessionClose,
    SessionOpen,
    SessionRewind,
    Token,
    ToolDecision,
    ToolOutput,
)
from bargein_protocol.errors import ID_REUSED, QUEUE_FULL
from bargein_protocol.types import MAX_INPUT_CHARS

from ...core.history import Message, without_files
from ...core.turn_record import TurnRecord
from ...guard.admission import RETRY_AFTER_S, Refused
from ...hosting.host import SessionHost
from ...hosting.own_ids import Unavailable, own_session_id, seed
from ...transport.turn_stream import ResponseWire, Translator, TurnStream
from ..call import CURSOR_HEADER, PROTOCOL_HEADER, SESSION_HEADER, TOKEN_HEADER, Call, check
from .files import seeded
from .messages import bounded

MAX_OWN_ID_CHARS = 512


async def open_session(call: Call, own_id: str | None) -> SessionHost:
    """Return the session of a client's id, a new one if need be.

    Without an id one for this request.

    Raises:
        Refused: The id is too long, or there is no room.
    """
    if own_id is not None:
        _check_id(own_id)
    if call.sessions.draining:
        raise Refused(503, "the server is shutting down", RETRY_AFTER_S)
    caller, own_ids = call.caller, call.sessions.own_ids
    try:
        if own_id is None:
            return own_ids.once(caller.principal, secrets.token_hex(16), caller.owner)
        await call.forward(own_session_id(caller.principal, own_id))
        return await own_ids.open(caller.principal, own_id, caller.owner)
    except Unavailable as error:
        raise _unavailable(error) from None


async def find_session(call: Call, own_id: str) -> SessionHost | None:
    """Return the session of a client's id, None when it has none.

    Raises:
        Refused: The id is too long, or there is no room for it in memory.
    """
    _check_id(own_id)
    try:
        await call.forward(own_session_id(call.caller.principal, own_id))
        return await call.sessions.own_ids.find(call.caller.principal, own_id)
    except Unavailable as error:
        raise _unavailable(error) from None


def _check_id(own_id: str) -> None:
    if not 0 < len(own_id) <= MAX_OWN_ID_CHARS:
        raise Refused(422, f"expected an id of the conversation with 1 to {MAX_OWN_ID_CHARS} characters")


def _unavailable(error: Unavailable) -> Refused:
    if error.share_used:
        return Refused(429, "this client has too many sessions", RETRY_AFTER_S)
    return Refused(503, "the session is not available now", RETRY_AFTER_S)


def new_input_id(door: str) -> InputId:
    """Return an id for an input that brings none."""
    return InputId(f"in_{door}_{secrets.token_hex(8)}")


def ask(call: Call, host: SessionHost, before: Sequence[Message] | None, question: InputText) -> Seq:
    """Give an input its turn, after the messages before it.

    Args:
        call: The request.
        host: The session.
        before: The client's messages before the input, in the shape of chat completions, with their files
            at the key `files`; None for a client that sends the last message alone.
        question: The input.

    Returns:
        The number before the first event of the turn.

    Raises:
        Refused: The input gets no turn.
    """
    if len(question.text) > MAX_INPUT_CHARS:
        raise Refused(413, f"expected at most {MAX_INPUT_CHARS} characters in a message")
    check(SessionOpen(pending=[question]))
    if before is not None:
        _align(call, host, before, question.id.rpartition("_")[0])
    side_channel = host.core.side_channel
    for answer in host.act(side_channel.request, question):
        if isinstance(answer, InputRejected):
            busy = answer.code in ("busy", QUEUE_FULL.name)
            raise Refused(409 if busy else 503, f"the input was rejected: {answer.code}", RETRY_AFTER_S)
        if isinstance(answer, ErrorEvent):
            raise Refused(409, ID_REUSED.reason)
    call.sessions.weigh(host)
    start = host.core.outside.start_of(question.id)
    assert start is not None
    return start


def _align(call: Call, host: SessionHost, before: Sequence[Message], own: str) -> None:
    outside = host.core.outside
    # A client may leave the files out of its older messages, so the texts alone are compared.
    texts = [without_files(str(message["content"])) for message in before if message["role"] == "user"]
    alignment = outside.align(host.core.seed, texts, own)
    own_history = call.sessions.history is not None  # the application's own history is the truth
    if alignment.rewind_to is not None and (alignment.complete or not own_history):
        rewind = SessionRewind(id=RewindId(secrets.token_hex(8)), turn_id=alignment.rewind_to)
        [answer] = host.act(host.core.side_channel.request, rewind)
        if isinstance(answer, ErrorEvent):
            raise Refused(409, "the turns after this message cannot be dropped now", RETRY_AFTER_S)
    if not alignment.complete and not own_history:
        if not call.sessions.may_keep(host.owner):
            raise Refused(503, "the server is full", RETRY_AFTER_S)
        limits = call.sessions.settings
        kept = bounded(before, limits.max_history_turns, limits.max_history_chars)
        seed(host, seeded(kept, limits.max_history_chars, call.sessions.attachments))


def answer_calls(host: SessionHost, answers: Sequence[ToolOutput | ToolDecision]) -> int:
    """Give the client's answers to the calls that wait for them.

    Return how many waited.
    """
    taken = 0
    for answer in answers:
        taken += not host.act(host.core.side_channel.request, answer)
    return taken


def last_turn(host: SessionHost) -> TurnRecord | None:
    """Return the turn that runs or ran last, None without one."""
    turns = host.core.outside.turns()
    return turns[-1] if turns else None


def interrupt_id() -> InterruptId:
    """Return an id for an interrupt."""
    return InterruptId(secrets.token_hex(8))


async def stream(
    call: Call,
    host: SessionHost,
    input_id: InputId,
    after: Seq,
    translator: Translator,
    headers: Mapping[str, str],
    *,
    interrupts: bool,
    frame: bytes = b"%s",
    last: bytes = b"",
) -> None:
    """Respond with the stream of a turn.

    Args:
        call: The request.
        host: The session.
        input_id: The input of the turn.
        after: The number before the turn's first event.
        translator: The translation.
        headers: Headers beside those of every stream.
        interrupts: Whether a client that closes the request interrupts the turn.
        frame: Form of a piece of the translation in the response, with `%s` in its place.
        last: End of the response.
    """
    call.release_body()
    wire = ResponseWire(call.send, frame, last)
    turn_stream = TurnStream(
        wire, translator, call.sessions, call.caller, host, input_id, interrupts=interrupts
    )
    turn_stream.start(after)
    await wire.run(turn_stream, {**session_headers(host), **headers}, call.receive)


def session_headers(host: SessionHost) -> dict[str, str]:
    """Return the headers that name a session, with its first token.

    With the token and the cursor, that of the session's start, a client of bargein's own protocol can follow
    and continue the session.
    """
    headers = {PROTOCOL_HEADER: "1", SESSION_HEADER: host.view.id}
    identity, persistence = host.core.identity, host.core.persistence
    if not identity.hashes()[0]:
        token = Token(secrets.token_urlsafe(32))
        identity.rotate(token, host.loop.time())
        if persistence is not None:
            persistence.changes.touch_head()
        start = f"{host.core.side_channel.cursor.epoch}.0"
        headers |= {TOKEN_HEADER: token, CURSOR_HEADER: start}
    return headers


def close_session(host: SessionHost) -> None:
    """End a session that was made for one request.

    A protected section is not cut: then the session stays, and ends `resume_s` after it.
    """
    if host.core.busy:
        host.act(host.core.side_channel.request, Interrupt(id=interrupt_id(), reason="session_closed"))
    if not host.core.busy:
        host.act(host.core.receive, SessionClose())
