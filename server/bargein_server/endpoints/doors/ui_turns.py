"""Turns for the AI SDK: the answer to a request, and the running one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from bargein_protocol import (
    CallId,
    ErrorEvent,
    InputId,
    InputText,
    Seq,
    SessionRewind,
    ToolDecision,
    TurnId,
)
from bargein_protocol.types import RewindId

from ...guard.admission import RETRY_AFTER_S, Refused
from ...hosting.host import SessionHost
from ..call import Call
from .conversation import (
    answer_calls,
    ask,
    find_session,
    interrupt_id,
    last_turn,
    new_input_id,
    open_session,
)
from .files import attachments_of, ui_files
from .ui_chunks import UiMessageStream
from .ui_message import UiMessage, answered_calls, answers_of, conversation_of, shown_calls


class ChatBody(Struct, rename="camel"):
    """Body of a request; its other fields are metadata for the agent.

    Args:
        id: The client's id of the chat.
        messages: All messages; None for a client that sends the last one alone.
        message: The last message, without `messages`.
        trigger: Whether an answer is asked for anew.
        message_id: The message that is answered anew or edited.
    """

    id: str
    messages: list[UiMessage] | None = None
    message: UiMessage | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None


class Answer(NamedTuple):
    """A turn that is about to be streamed.

    Attributes:
        input_id: The input of the turn.
        after: The number before its first event.
    """

    host: SessionHost
    input_id: InputId
    after: Seq
    translator: UiMessageStream


async def answer_body(call: Call, body: Mapping[str, Any], refuses: bool = False) -> Answer:
    """Return the turn that answers a request.

    Args:
        call: The request.
        body: Its body.
        refuses: Whether calls that need an approval are refused, because the client has none.

    Raises:
        Refused: The body is wrong, or there is no turn.
    """
    try:
        asked = msgspec.convert(body, ChatBody)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)[:200]) from None
    last = asked.messages[-1] if asked.messages else asked.message
    if last is None or last.role not in ("user", "assistant"):
        raise Refused(422, "expected a message of the user or the assistant at the end")
    files = attachments_of(ui_files(last.parts), call.sessions.attachments) if last.role == "user" else None
    host = await open_session(call, asked.id)
    if last.role == "assistant":
        return _continued(host, last, refuses)
    before = _before(call, host, asked)
    known = {"id", "messages", "message", "trigger", "messageId"}
    metadata = {name: value for name, value in body.items() if name not in known}
    input_id = new_input_id("ai-sdk")
    question = InputText(id=input_id, text=last.text, metadata=metadata or None, attachments=files)
    after = ask(call, host, before, question)
    fold = host.core.side_channel.turn_of(question.id)
    assert fold is not None
    return Answer(host, question.id, after, _translator(host, fold.turn_id, refuses))


def _before(call: Call, host: SessionHost, asked: ChatBody) -> list[dict[str, Any]] | None:
    if asked.messages is not None:
        return conversation_of(asked.messages[:-1])
    if asked.trigger == "regenerate-message" and asked.message_id is not None:
        turns = [turn.id for turn in host.core.outside.turns()]
        if TurnId(asked.message_id) in turns:
            rewind = SessionRewind(id=RewindId(interrupt_id()), turn_id=TurnId(asked.message_id))
            [answer] = host.act(host.core.side_channel.request, rewind)
            if isinstance(answer, ErrorEvent):
                raise Refused(409, "this answer cannot be dropped now", RETRY_AFTER_S)
    return None


def _continued(host: SessionHost, message: UiMessage, refuses: bool) -> Answer:
    turn = last_turn(host)
    after = None if turn is None else host.core.outside.start_of(turn.input.id)
    if turn is None or after is None or turn.id != message.id:
        raise Refused(409, "the turn of this message is over")
    answers = answers_of(message)
    if not answers:
        raise Refused(422, "expected an approval or an output of a tool in the last message")
    answer_calls(host, answers)
    denied = [each.call_id for each in answers if isinstance(each, ToolDecision) and not each.allow]
    known = {call_id for lane in turn.fold.lanes.values() for call_id in lane.tools}
    answered = [call_id for call_id in answered_calls(message) if call_id in known]
    shown = {call_id: on_server for call_id, on_server in shown_calls(message) if call_id in known}
    translator = _translator(host, turn.id, refuses, answered, denied, shown)
    return Answer(host, turn.input.id, after, translator)


async def running_answer(call: Call, chat_id: str) -> Answer | None:
    """Return the running turn of a chat, None when none runs."""
    host = await find_session(call, chat_id)
    if host is None or not host.core.busy:
        return None
    turn = last_turn(host)
    after = None if turn is None else host.core.outside.start_of(turn.input.id)
    if turn is None or after is None:
        return None
    return Answer(host, turn.input.id, after, _translator(host, turn.id, False))


def _translator(
    host: SessionHost,
    turn_id: TurnId,
    refuses: bool,
    answered: Collection[str] = (),
    denied: Collection[str] = (),
    shown: Mapping[str, bool] | None = None,
) -> UiMessageStream:
    def refuse(call_id: CallId) -> None:
        decision = ToolDecision(call_id=call_id, allow=False)
        host.loop.call_soon(answer_calls, host, [decision])

    waits = host.core.outside.waits_for
    return UiMessageStream(turn_id, waits, answered, denied, shown, refuse if refuses else None)
