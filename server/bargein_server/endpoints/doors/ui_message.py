"""UI messages of the AI SDK: the messages of a request as a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field, json

from bargein_protocol import CallId, ToolDecision, ToolOutput

from ...core.history import Message
from .files import FILES, ui_files
from .messages import valid_messages

_ANSWERED = ("approval-responded", "output-available", "output-error")


class UiMessage(Struct):
    """A message.

    Args:
        parts: Its parts, of any type.
        content: Its text in the form of older versions.
    """

    role: str
    id: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)
    content: str = ""

    @property
    def text(self) -> str:
        """The text of its parts, without files and data."""
        return "".join(map(_text_of, self.parts)) or self.content


def _text_of(part: Mapping[str, Any]) -> str:
    text = part.get("text") if part.get("type") == "text" else None
    return text if isinstance(text, str) else ""


def conversation_of(messages: Iterable[UiMessage]) -> list[Message]:
    """Return valid messages in the shape of chat completions."""
    return valid_messages([each for message in messages for each in _messages_of(message)])


def _messages_of(message: UiMessage) -> Iterator[dict[str, Any]]:
    if message.role != "assistant":
        files = list(ui_files(message.parts)) if message.role == "user" else ()
        yield {"role": message.role, "content": message.text, FILES: files}
        return
    text = ""
    for part in message.parts:
        text += _text_of(part)
        if is_tool(part):
            call_id = str(part.get("toolCallId", ""))
            arguments = json.encode(part.get("input") or {}).decode()
            call = {"id": call_id, "name": tool_name(part), "arguments": arguments}
            yield {"role": "assistant", "content": text, "tool_calls": [call]}
            yield {"role": "tool", "tool_call_id": call_id, "content": _result_of(part)}
            text = ""
    yield {"role": "assistant", "content": text or message.content}


def _result_of(part: Mapping[str, Any]) -> str:
    state = part.get("state")
    if state == "output-error":
        return f"error: {part.get('errorText', 'failed')}"
    if state != "output-available":
        return "cancelled"
    output = part.get("output")
    return output if isinstance(output, str) else json.encode(output).decode()


def is_tool(part: Mapping[str, Any]) -> bool:
    """Return whether a part is a tool call."""
    kind = part.get("type")
    return isinstance(kind, str) and (kind == "dynamic-tool" or kind.startswith("tool-"))


def tool_name(part: Mapping[str, Any]) -> str:
    """Return the name of the tool of a part."""
    kind = str(part.get("type"))
    return str(part.get("toolName", "")) if kind == "dynamic-tool" else kind.removeprefix("tool-")


def answers_of(message: UiMessage) -> list[ToolOutput | ToolDecision]:
    """Return the client's answers to calls in a message of the assistant.

    They contain earlier ones, and results of tools of the server: the calls that wait decide.
    """
    answers: list[ToolOutput | ToolDecision] = []
    for part in message.parts:
        call_id, state = part.get("toolCallId"), part.get("state")
        if not is_tool(part) or not isinstance(call_id, str) or not 0 < len(call_id) <= 128:
            continue
        if state == "approval-responded":
            approval = part.get("approval")
            allow = isinstance(approval, dict) and approval.get("approved") is True
            answers.append(ToolDecision(call_id=CallId(call_id), allow=allow))
        elif state == "output-available":
            answers.append(ToolOutput(call_id=CallId(call_id), output=part.get("output")))
        elif state == "output-error":
            error = str(part.get("errorText") or "failed")[:4096]
            answers.append(ToolOutput(call_id=CallId(call_id), error=error))
    return answers


def answered_calls(message: UiMessage) -> Sequence[str]:
    """Return the calls of a message that the client has answered."""
    return [str(part.get("toolCallId")) for part in message.parts if part.get("state") in _ANSWERED]


def shown_calls(message: UiMessage) -> Iterator[tuple[str, bool]]:
    """Yield the calls with a complete input, and whether the server runs them."""
    for part in message.parts:
        if is_tool(part) and part.get("state") != "input-streaming":
            yield str(part.get("toolCallId")), part.get("providerExecuted") is True
