"""One call of a model, as its stream comes in: text, thoughts, and the tools that it calls."""

from __future__ import annotations

from collections.abc import Iterator

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from bargein_protocol import CallId, Thought, ToolCall, ToolCallDelta
from bargein_protocol.types import MAX_NAME_CHARS
from bargein_server.agent import NamedCall, Output, Turn

from .partial import StringField


class _Announced:
    """A call whose name is known; its arguments are being written."""

    def __init__(self, call_id: CallId, given_id: str, name: str, answer: StringField | None) -> None:
        self.call_id = call_id
        self.given_id = given_id
        self.name = name
        self.arguments: list[str] = []
        self.answer = answer


class Completion:
    """What came of one call of a model so far.

    Args:
        turn: The turn.
        final: The tool whose call is the answer, and the field of it that is said as text.

    Attributes:
        text: What it said beside its calls.
        finish_reason: Why it stopped; None while the stream goes on, and when it was cut.
        begun: Whether anything came that was told to the client.
        answered: Whether the final tool said something.
    """

    def __init__(self, turn: Turn, final: tuple[str, str] | None = None) -> None:
        self.text = ""
        self.finish_reason: str | None = None
        self.begun = False
        self.answered = False
        self._turn = turn
        self._final = final
        self._usage = (0, 0)
        self._calls: list[_Announced] = []
        self._newest: dict[int, _Announced] = {}

    @property
    def usage(self) -> tuple[int, int]:
        """The tokens that the server counted: those it read, and those it made."""
        return self._usage

    @property
    def calls(self) -> list[NamedCall]:
        """The calls in the order in which they were announced; an answer that was said is none of them."""
        return [
            NamedCall(call.call_id, call.name, "".join(call.arguments))
            for call in self._calls
            if call.answer is None or not self.answered
        ]

    def restart(self) -> None:
        """Forget what an attempt brought that told nothing; the next one begins anew."""
        self._calls.clear()
        self._newest.clear()
        self._usage = (0, 0)
        self.finish_reason = None

    def read(self, chunk: ChatCompletionChunk) -> Iterator[Output]:
        """Yield what a chunk brings."""
        self._add_usage(chunk.usage)
        # The chunk that counts tokens has no choices; we ask for one, so there is no second.
        for choice in chunk.choices[:1]:
            delta = choice.delta
            thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
            if thought:
                self.begun = True
                yield Thought(text=thought)
            if text := delta.content or delta.refusal:
                self.begun = True
                self.text += text
                yield text
            for call in delta.tool_calls or ():
                yield from self._read_call(call)
            self.finish_reason = choice.finish_reason or self.finish_reason

    def _read_call(self, delta: ChoiceDeltaToolCall) -> Iterator[Output]:
        function = delta.function
        name, piece = (function.name, function.arguments) if function is not None else (None, None)
        # Servers number the calls, but some give each the number 0, and some none.
        index = getattr(delta, "index", None) or 0
        call = self._newest.get(index)
        if name and (call is None or (delta.id and delta.id != call.given_id)):
            call = self._newest[index] = self._announce(delta.id or "", name[:MAX_NAME_CHARS])
            if call.answer is None:
                yield ToolCall(call_id=call.call_id, name=call.name)
        if call is None or not piece:
            return
        call.arguments.append(piece)
        if call.answer is None:
            yield ToolCallDelta(call_id=call.call_id, arguments=piece)
            return
        text = call.answer.feed(piece)
        self.answered = self.answered or call.answer.complete or bool(text)
        if text:
            self.begun = True
            self.text += text
            yield text

    def _announce(self, given_id: str, name: str) -> _Announced:
        is_final = self._final is not None and name == self._final[0]
        answer = StringField(self._final[1]) if self._final is not None and is_final else None
        self.begun = self.begun or answer is None
        call = _Announced(self._turn.tools.claim(given_id), given_id, name, answer)
        self._calls.append(call)
        return call

    def unannounced(self) -> Iterator[ToolCall]:
        """Yield the announcement of a final call in which no answer could be read."""
        if not self.answered:
            for call in self._calls:
                if call.answer is not None:
                    yield ToolCall(call_id=call.call_id, name=call.name)

    def _add_usage(self, usage: CompletionUsage | None) -> None:
        """Add what the server counted, whether it counts once or with every chunk."""
        if usage is None:
            return
        before, self._usage = self._usage, (usage.prompt_tokens or 0, usage.completion_tokens or 0)
        self._turn.add_usage(self._usage[0] - before[0], self._usage[1] - before[1])
