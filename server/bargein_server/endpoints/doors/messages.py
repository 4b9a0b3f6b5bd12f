"""Messages of other protocols, in the shape of chat completions."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, Protocol

from msgspec import Struct, field

from ...core.history import Message, NamedCall, calls_message, result_message
from .files import FILES, FilePart


class Function(Struct):
    """Function of a tool call."""

    name: str = ""
    arguments: str = ""


class MessageCall(Struct):
    """A tool call in a message."""

    id: str = ""
    function: Function = field(default_factory=Function)


class GivenMessage(Protocol):
    """A message of a client."""

    @property
    def role(self) -> str:
        """Author of the message."""

    @property
    def content(self) -> Any:
        """A text, or parts."""

    @property
    def tool_calls(self) -> list[MessageCall] | None:
        """Calls of the model."""

    @property
    def tool_call_id(self) -> str | None:
        """Call of which it is the result."""


def earlier_messages(
    messages: Sequence[GivenMessage], files_of: Callable[[object], Iterable[FilePart]]
) -> list[Message]:
    """Return the messages before the last, in a form for model APIs.

    Args:
        messages: The messages of the client.
        files_of: Returns the files in the content of a message of the user.
    """
    return valid_messages(
        [
            {
                "role": message.role,
                "content": text_of(message.content),
                FILES: list(files_of(message.content)) if message.role == "user" else (),
                "tool_call_id": message.tool_call_id,
                "tool_calls": [
                    {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
                    for call in message.tool_calls or ()
                ],
            }
            for message in messages[:-1]
        ]
    )


def bounded(messages: Sequence[Message], turns: int, chars: int) -> list[Message]:
    """Return the last exchanges within bounds.

    Each begins with a message of the user.
    """
    kept: list[Message] = []
    exchange: list[Message] = []
    for message in reversed(messages):
        exchange.insert(0, message)
        if message["role"] == "user":
            turns -= 1
            chars -= sum(_length(each) for each in exchange)
            if turns < 0 or chars < 0:
                break
            kept = exchange + kept
            exchange = []
    return kept


def _length(message: Message) -> int:
    """Return the length of a message without its files."""
    return len(str({key: value for key, value in message.items() if key != FILES}))


def text_of(content: object) -> str:
    """Return the text of a message's content, without its files."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [
        str(part.get("text", ""))
        for part in parts
        if isinstance(part, dict) and part.get("type") in ("text", "input_text")
    ]
    return "".join(texts)


def valid_messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return messages from outside in a form that model APIs accept.

    User and assistant alternate, every tool call has one result, and instructions are left out: they are the
    agent's own.

    Args:
        messages: Messages in the shape of chat completions, with plain texts.
    """
    results = _results(messages)
    valid: list[Message] = []
    for index, message in enumerate(messages):
        role, text = message.get("role"), str(message.get("content") or "")
        if role == "user":
            if valid and valid[-1]["role"] != "assistant":
                valid.append({"role": "assistant", "content": "[no text]"})
            files = message.get(FILES)
            valid.append({"role": "user", "content": text, **({FILES: files} if files else {})})
        elif role == "assistant" and valid:
            # Ids may repeat from message to message, so the results that follow this one come first.
            own = _results(takewhile(_is_result, islice(messages, index + 1, None)))
            _append(valid, _assistant(message, text, ChainMap(own, results)))
    if valid and valid[-1]["role"] != "assistant":
        valid.append({"role": "assistant", "content": "[no text]"})
    return valid


def _is_result(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "tool"


def _results(messages: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(message.get("tool_call_id")): message for message in messages if _is_result(message)}


def _append(valid: list[Message], answers: Iterable[Message]) -> None:
    """Append messages of the assistant, joined to a text before them."""
    for answer in answers:
        previous = valid[-1]
        if answer["role"] == previous["role"] == "assistant" and not previous.get("tool_calls"):
            valid.pop()
            texts = (previous["content"], answer["content"])
            answer = {**answer, "content": "\n\n".join(filter(None, texts))}
        valid.append(answer)


def _assistant(
    message: Mapping[str, Any], text: str, results: Mapping[str, Mapping[str, Any]]
) -> Iterator[Message]:
    calls = [
        NamedCall(str(call["id"]), str(call["name"]), str(call["arguments"]))
        for call in message.get("tool_calls") or ()
    ]
    if calls:
        yield calls_message(text or None, calls)
        for call in calls:
            result = results.get(call.call_id)
            output = "no result was recorded" if result is None else str(result.get("content") or "")
            yield result_message(call.call_id, "completed", output, None)
    elif text:
        yield {"role": "assistant", "content": text}
