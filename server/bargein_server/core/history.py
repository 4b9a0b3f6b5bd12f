"""History of the conversation, as messages for a model.

It is a view of the turns, computed on request: the heard part of each, cut by every playback report until
then, also after the turn's end (contract 7). It is always valid for the chat-completions API: every tool
call has exactly one result (contract 8). One invalid message makes every later request of a conversation
fail, so names and arguments are corrected to the form that APIs accept.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from msgspec import Struct, json

from bargein_protocol import Attachment, InputText, ToolState, ToolStatus, TurnId

from .heard_position import whole_text
from .lifecycle import Stage
from .plain_values import plain_text, plain_value
from .turn_record import TurnRecord

Message = dict[str, Any]

NO_TEXT = "[no text]"
"""Assistant message of a turn that ended without text."""
NO_RESULT = "no result was recorded"
"""Result of a call whose turn was completed without it."""
UNKNOWN_EFFECT = "no result was recorded; the call may have taken effect"
"""Result of a call that was running, without the ledger, when its turn was cut."""

_ODD = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME = 64


class NamedCall(Struct, frozen=True):
    """A tool call as a model wrote it.

    Args:
        arguments: JSON text, possibly cut or malformed.
    """

    call_id: str
    name: str
    arguments: str


def calls_message(content: str | None, calls: Iterable[NamedCall]) -> Message:
    """Return the assistant's message that calls tools.

    One `result_message` for each call must follow.
    """
    return {
        "role": "assistant",
        "content": plain_text(content) if content else None,
        "tool_calls": [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": _legal_name(call.name), "arguments": _legal_arguments(call.arguments)},
            }
            for call in calls
        ],
    }


def result_message(call_id: str, status: ToolStatus, output: Any, error: str | None) -> Message:
    """Return the message that answers a tool call."""
    if status == "completed":
        content = plain_text(output) if isinstance(output, str) else _json(output)
        if error:  # such as arguments that were left out
            content = f"{content}\n[{error}]"
    elif status == "failed":
        content = f"error: {error or 'failed'}"
    elif status == "cancelled":
        content = f"cancelled: {error}" if error else "cancelled"
    else:
        content = "running"
    return {"role": "tool", "tool_call_id": call_id, "content": plain_text(content)}


def _json(value: Any) -> str:
    try:
        return json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        # `plain_value` takes what the codec does not, such as an object that the caller did not validate.
        return json.encode(plain_value(value, any_object=True, cut=True)).decode()


def _legal_name(name: str) -> str:
    return _ODD.sub("_", name)[:_MAX_NAME] or "unknown"


def _legal_arguments(arguments: str) -> str:
    try:
        arguments = plain_text(arguments)
        whole = json.decode(arguments.encode())
    except (ValueError, RecursionError):
        return "{}"  # cut while streaming; half of a JSON text would make the request invalid
    return arguments if isinstance(whole, dict) else "{}"


INTERRUPTED = "[interrupted]"
"""Suffix of an assistant message that was not heard to its end."""
CUT_SHORT_MARKS = {"length": "[cut off: too long]", "content_filter": "[cut off by a content filter]"}
"""Suffixes of messages that the model ended early, by the reasons of their turns."""

ABOUT_IMAGE_TOKENS = 1000
"""Cautious estimate of the tokens of one image."""

CountTokens = Callable[[str], int]


def about_tokens(text: str) -> int:
    """Return a cautious estimate of tokens: one for three bytes of UTF-8."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


class History:
    """History for one turn: the turns before it, and its own input."""

    def __init__(
        self, turns: Mapping[TurnId, TurnRecord], own: TurnRecord, seed: Sequence[Message] = ()
    ) -> None:
        self._turns = turns
        self._own = own
        self._seed = seed

    def messages(
        self,
        max_tokens: int | None = None,
        *,
        count_tokens: CountTokens = about_tokens,
        mark: str | None = INTERRUPTED,
        attachments: bool = False,
    ) -> list[Message]:
        """Return the messages for a chat-completions call, the user's input last.

        Args:
            max_tokens: Maximum number of tokens of all messages. Whole exchanges are dropped from
                the front; the user's own input always stays.
            count_tokens: Counts the tokens of a text. The default is an estimate from its length.
            mark: Suffix of an answer that was not heard to its end, and the whole message if nothing
                was heard. None leaves such answers unmarked.
            attachments: Whether inputs with files have a list of parts as `content`, with images as
                `image_url` and other files as `file`. Otherwise their text names the files.

        User and assistant alternate, as strict chat templates require: every turn ends with an
        assistant message, which is `[no text]` if the turn had no text.
        """
        own: Message = user_message(self._own.input, attachments)
        room = None if max_tokens is None else max_tokens - _cost([own], count_tokens)
        exchanges: list[list[Message]] = []
        before = (exchange_messages(turn, mark, attachments) for turn in reversed(self._before()))
        seed = [seed_message(message, attachments) for message in self._seed]
        for exchange in chain(before, reversed(_exchanges(seed))):
            if room is not None:
                room -= _cost(exchange, count_tokens)
                if room < 0:
                    break
            exchanges.append(exchange)
        return [message for exchange in reversed(exchanges) for message in exchange] + [own]

    def _before(self) -> list[TurnRecord]:
        before = []
        for turn in self._turns.values():
            if turn is self._own:
                break
            # A turn that ended before its agent ran is no part of the conversation.
            if turn.stage is not Stage.QUEUED and turn.fold.started and not turn.fold.dropped:
                before.append(turn)
        return before


def _exchanges(messages: Sequence[Message]) -> list[list[Message]]:
    """Return messages in exchanges, each of which begins with one of the user."""
    exchanges: list[list[Message]] = []
    for message in messages:
        if not exchanges or message.get("role") == "user":
            exchanges.append([])
        exchanges[-1].append(message)
    return exchanges


def conversation(turns: Iterable[TurnRecord], mark: str | None = INTERRUPTED) -> list[Message]:
    """Return the messages of turns that ran, as `History.messages` does."""
    return [
        message
        for turn in turns
        if turn.stage is not Stage.QUEUED and turn.fold.started and not turn.fold.dropped
        for message in exchange_messages(turn, mark)
    ]


def exchange_messages(turn: TurnRecord, mark: str | None, attachments: bool = False) -> list[Message]:
    """Return the messages of one turn: input, tool calls, results, heard text.

    Other lanes than the main lane contribute their tool calls, unless the turn was completed: then its
    main lane contains its use of them.
    """
    lane = turn.fold.main_lane
    text = turn.heard_position.heard(lane).text
    ended = turn.fold.ended
    cut = len(text) < len(whole_text(lane)) or ended is None or ended.status != "completed"
    messages: list[Message] = [user_message(turn.input, attachments)]
    written = 0
    step: list[ToolState] = []
    for tool in lane.tools.values():
        if step and (tool.text_at != step[0].text_at or not lane.same_step(tool, step[0])):
            written = _add_step(messages, turn, step, text, written)
            step = []
        step.append(tool)
    if step:
        written = _add_step(messages, turn, step, text, written)
    if unmerged := _unmerged(turn):
        _add_calls(messages, turn, unmerged, None)
    rest = text[written:]
    if not cut and mark is not None and ended is not None and ended.reason in CUT_SHORT_MARKS:
        cut, mark = True, CUT_SHORT_MARKS[ended.reason]
    if cut and mark is not None:
        rest = f"{rest.rstrip()} {mark}" if rest.strip() else mark
    messages.append({"role": "assistant", "content": rest if rest.strip() else NO_TEXT})
    return messages


def _add_step(
    messages: list[Message], turn: TurnRecord, tools: list[ToolState], text: str, written: int
) -> int:
    """Add one model call: its text, its tool calls, one result for each."""
    end = max(written, min(tools[0].text_at, len(text)))
    _add_calls(messages, turn, tools, text[written:end])
    return end


def _add_calls(messages: list[Message], turn: TurnRecord, tools: list[ToolState], text: str | None) -> None:
    messages.append(
        calls_message(text, [NamedCall(tool.call_id, tool.name, _arguments(tool)) for tool in tools])
    )
    messages += [_result_of(turn, tool) for tool in tools]


def _unmerged(turn: TurnRecord) -> list[ToolState]:
    """Return the tool calls of other lanes in a turn that was not completed."""
    ended = turn.fold.ended
    if ended is not None and ended.status == "completed":
        return []
    return [
        tool
        for source, lane in turn.fold.lanes.items()
        for tool in lane.tools.values()
        if source and tool.state in ("completed", "failed", "background")
    ]


def _arguments(tool: ToolState) -> str:
    return tool.arguments if tool.given is None else _json(tool.given)


def _result_of(turn: TurnRecord, tool: ToolState) -> Message:
    """Return the message with the result of a call.

    A call without a result counts as cancelled only if the server can know that: its turn was cut
    before the call began, or the ledger stopped it.
    """
    state, ended = tool.state, turn.fold.ended
    if state in ("completed", "failed", "cancelled"):
        return result_message(tool.call_id, state, tool.output, tool.error)
    if state == "background":
        return result_message(tool.call_id, "running", None, None)
    if ended is not None and ended.status == "completed":
        return result_message(tool.call_id, "completed", NO_RESULT, None)
    begun = turn.calls is not None and turn.calls.has_begun(tool.call_id)
    if state == "running" and not begun:
        return result_message(tool.call_id, "completed", UNKNOWN_EFFECT, None)
    return result_message(tool.call_id, "cancelled", None, tool.error)


def _cost(messages: Sequence[Message], count_tokens: CountTokens) -> int:
    # The usual chat templates take four tokens for the frame of a message.
    return sum(
        4 + _content_cost(message.get("content") or "", count_tokens) + sum(
            count_tokens(call["function"]["name"] + call["function"]["arguments"])
            for call in message.get("tool_calls", ())
        )
        for message in messages
    )  # fmt: skip


def _content_cost(content: str | list[dict[str, Any]], count_tokens: CountTokens) -> int:
    if isinstance(content, str):
        return count_tokens(content)
    return sum(
        count_tokens(part["text"]) if part["type"] == "text" else ABOUT_IMAGE_TOKENS for part in content
    )


def user_message(asked: InputText, files: bool) -> dict[str, Any]:
    """Return the message of an input, in the form of chat completions.

    Args:
        asked: The input.
        files: Whether it has the content of the attachments. Otherwise, or without their content, a
            line of its text names each.
    """
    return {"role": "user", "content": _content(asked.text, asked.attachments or (), files)}


SEED_FILES = "bargein_files"
"""Key of the files in a message before the session, beside its text."""


def seed_message(message: Message, files: bool) -> Message:
    """Return a message before the session in the form of `user_message`."""
    given = message.get(SEED_FILES)
    if given is None:
        return message
    return {"role": message["role"], "content": _content(str(message["content"]), given, files)}


def _content(text: str, attachments: Sequence[Attachment], files: bool) -> str | list[dict[str, Any]]:
    if not attachments:
        return text
    named = [one for one in attachments if not files or not one.data]
    lines = [attached_line(one.name, one.media_type) for one in named]
    text = "\n".join([text, *lines]).strip("\n")
    if not files or len(named) == len(attachments):
        return text
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    return parts + [_part(one) for one in attachments if one.data]


def attached_line(name: str, media_type: str) -> str:
    """Return the line that names a file in a text without it."""
    return f"[attached: {name}, {media_type}]" if name else f"[attached: {media_type}]"


def without_files(text: str) -> str:
    """Return a text without the lines at its end that name files."""
    lines = text.split("\n")
    while lines and lines[-1].startswith("[attached: ") and lines[-1].endswith("]"):
        del lines[-1]
    return "\n".join(lines)


def _part(one: Attachment) -> dict[str, Any]:
    url = f"data:{one.media_type};base64,{b64encode(one.data).decode()}"
    if one.media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": one.name or "file", "file_data": url}}
