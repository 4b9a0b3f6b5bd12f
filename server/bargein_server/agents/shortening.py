"""Messages of a turn, shortened when the model's context is too short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bargein_server.agent import ABOUT_IMAGE_TOKENS, Message, Turn

from .tools import Tool

_CHARS_PER_TOKEN = 4
_SHORTEST_RESULT = 200
_MARK = "\n[shortened: {} characters left out]"


class Prompt:
    """Messages of a turn: system prompt, history, and the turn's own steps.

    Args:
        turn: The turn.
        instructions: The system prompt.
        history_tokens: The history's share of the context; None for all of it.
        attachments: Whether the messages have the files of inputs.

    Attributes:
        said: Messages of the turn's steps; the agent appends to it.
        tools: Tools that the model may call, by name.
    """

    def __init__(
        self, turn: Turn, instructions: str | None, history_tokens: int | None, attachments: bool = False
    ) -> None:
        self._attachments = attachments
        self.said: list[Message] = []
        self.tools: Mapping[str, Tool] = {}
        self._turn = turn
        self._instructions = instructions
        self._budget = history_tokens
        self._whole: dict[str, str] = {}  # results before they were shortened, by the id of their call

    def messages(self) -> list[Message]:
        """Return the messages of the next request."""
        return [*self._history(), *self.said]

    def shorten(self) -> bool:
        """Make the messages shorter; return False when nothing can be left out.

        The larger part gives way first: the history, whose exchanges are left out from the front, or the
        results of this turn's tools, of which the oldest are cut to their begin.
        """
        history_tokens, result_tokens = _tokens(self._history()), _tokens(self._results())
        if result_tokens > history_tokens:
            return self._shorten_results() or self._shorten_history()
        return self._shorten_history() or self._shorten_results()

    def _history(self) -> list[Message]:
        history = self._turn.history.messages(max_tokens=self._budget, attachments=self._attachments)
        if self._instructions is None:
            return history
        return [{"role": "system", "content": self._instructions}, *history]

    def _results(self) -> list[Message]:
        return [message for message in self.said if message["role"] == "tool"]

    def _shorten_history(self) -> bool:
        before = self._history()
        self._budget = self._budget or _tokens(before)
        while self._budget:
            self._budget //= 2
            if len(self._history()) < len(before):
                return True
        return False

    def _shorten_results(self) -> bool:
        """Halve the results, oldest first; the newest only when no other is left."""
        results = self._results()
        total = sum(len(result["content"]) for result in results)
        excess = total - total // 2
        shortened = False
        for result in results:
            content: str = result["content"]
            if excess <= 0 or (shortened and result is results[-1]):
                break
            if len(content) <= _SHORTEST_RESULT + len(_MARK):
                continue
            whole = self._whole.setdefault(result["tool_call_id"], content)
            kept = max(_SHORTEST_RESULT, len(content) - excess - len(_MARK))
            result["content"] = whole[:kept] + _MARK.format(len(whole) - kept)
            excess -= len(content) - len(result["content"])
            shortened = True
        return shortened


def _tokens(messages: Sequence[Message]) -> int:
    return sum(map(_tokens_of, messages))


def _tokens_of(message: Message) -> int:
    content = message.get("content")
    if not isinstance(content, list):
        return len(str(content)) // _CHARS_PER_TOKEN
    return sum(
        len(part["text"]) // _CHARS_PER_TOKEN if part["type"] == "text" else ABOUT_IMAGE_TOKENS
        for part in content
    )
