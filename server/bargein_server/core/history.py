"""The conversation as the model is told it.

It is a view of the turns, computed when asked for: the heard part of each, cut by every report that
has come until then, also after the turn's end (contract 7). It is always valid for the API of chat
completions: every tool call has exactly one result (contract 8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import json

from bargein_protocol import ToolState, ToolStatus, TurnId

from .heard_position import whole_text
from .messages import Message, NamedCall, calls_message, result_message
from .turn_record import State, TurnRecord

INTERRUPTED = "[interrupted]"
"""Ends an assistant message that the user did not hear to its end."""

CountTokens = Callable[[str], int]


def about_tokens(text: str) -> int:
    """Return a cautious guess of how many tokens a text has: one for three bytes of UTF-8."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


class History:
    """What an agent sees of the conversation: the turns before its own, and its own input."""

    def __init__(self, turns: Mapping[TurnId, TurnRecord], own: TurnRecord) -> None:
        self._turns = turns
        self._own = own

    def messages(
        self,
        max_tokens: int | None = None,
        *,
        count_tokens: CountTokens = about_tokens,
        mark: str | None = INTERRUPTED,
    ) -> list[Message]:
        """Return the messages for a chat-completions call, the user's input last.

        Args:
            max_tokens: An upper bound for all of them together. Whole exchanges are dropped from
                the front; the user's own input always stays.
            count_tokens: Counts the tokens of a text. The default guesses from its length.
            mark: Ends an answer that was not heard to its end; it stands alone for one of which
                nothing was heard. None leaves such answers unmarked, and the empty ones out.
        """
        own: Message = {"role": "user", "content": self._own.input.text}
        room = None if max_tokens is None else max_tokens - _cost([own], count_tokens)
        exchanges: list[list[Message]] = []
        for turn in reversed(self._before()):
            exchange = exchange_messages(turn, mark)
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
            # A turn that ended before its agent ran was never part of the conversation.
            if turn.state is not State.QUEUED and turn.fold.started:
                before.append(turn)
        return before


def exchange_messages(turn: TurnRecord, mark: str | None) -> list[Message]:
    """Return the messages of one turn: the input, the tool calls with their results, the heard text.

    Of other voices than the turn's own it tells what their tools did, unless the turn came to its end
    and so could tell what it made of that.
    """
    lane = turn.fold.main_lane
    text = turn.hearing.heard(lane).text
    ended = turn.fold.ended
    cut = len(text) < len(whole_text(lane)) or ended is None or ended.status != "completed"
    messages: list[Message] = [{"role": "user", "content": turn.input.text}]
    written = 0
    step: list[ToolState] = []
    for tool in lane.tools.values():
        if step and (tool.text_at != step[0].text_at or not lane.same_step(tool, step[0])):
            written = _add_step(messages, step, text, written)
            step = []
        step.append(tool)
    if step:
        written = _add_step(messages, step, text, written)
    if unmerged := _unmerged(turn):
        _add_calls(messages, unmerged, None)
    rest = text[written:]
    if cut and mark is not None:
        rest = f"{rest.rstrip()} {mark}" if rest.strip() else mark
    if rest:
        messages.append({"role": "assistant", "content": rest})
    return messages


def _add_step(messages: list[Message], tools: list[ToolState], text: str, written: int) -> int:
    """Add one model call: the text up to its tool calls, the calls, and one result for each."""
    end = max(written, min(tools[0].text_at, len(text)))
    _add_calls(messages, tools, text[written:end])
    return end


def _add_calls(messages: list[Message], tools: list[ToolState], text: str | None) -> None:
    messages.append(
        calls_message(text, [NamedCall(tool.call_id, tool.name, _arguments(tool)) for tool in tools])
    )
    messages += [result_message(tool.call_id, _status(tool), tool.output, tool.error) for tool in tools]


def _unmerged(turn: TurnRecord) -> list[ToolState]:
    """Return what the tools of other voices did in a turn that did not come to merge it."""
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
    return tool.arguments if tool.given is None else json.encode(tool.given).decode()


def _status(tool: ToolState) -> ToolStatus:
    if tool.state == "background":
        return "running"
    # What had not begun, or was stopped, when its turn was cut.
    return tool.state if tool.state in ("completed", "failed") else "cancelled"


def _cost(messages: Sequence[Message], count_tokens: CountTokens) -> int:
    # Four tokens for what frames a message in the usual chat templates.
    return sum(
        4 + count_tokens(message.get("content") or "") + sum(
            count_tokens(call["function"]["name"] + call["function"]["arguments"])
            for call in message.get("tool_calls", ())
        )
        for message in messages
    )  # fmt: skip
