"""Result of one model call, built up from the chunks of its stream.

A chunk is decoded JSON of any shape: a field that is missing, null or of another type is left out, and
nothing here raises for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from bargein_protocol import Thought, ToolCall
from bargein_server.agent import NamedCall, Output, Turn

from .event_stream import StreamCut
from .kept_messages import ServerFields
from .model_fields import (
    SurrogateJoiner,
    cleaned,
    count,
    keep_fields,
    mapping,
    objects,
    parts,
    position,
    slices,
    string,
)
from .streamed_calls import StreamedCall, StreamedCalls
from .think_tags import ThinkTags
from .tool_arguments import readable_arguments

_REASONING = (
    "reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_content", "thought",
    "reasoning_details",
)  # fmt: skip
_CUTS = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
}
# Reasons of servers that gave up; the answer is cut like that of a broken connection.
_BROKEN = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})

# Fields with a meaning of their own; all others are kept as they came.
_READ = frozenset({"role", "content", "tool_calls", "function_call", "refusal", "audio"})
_NO_REASON = frozenset({"null", "none"})
_CALLED = frozenset({"tool_calls", "function_call"})


class Completion:
    """Result of one model call so far: text, tool calls, usage.

    Args:
        turn: The turn.
        final: The tool whose call is the answer, and the field of it that becomes text.
        think_tags: Whether `<think>` in the text begins a thought: `anywhere`, or at its `begin`; `opened`
            if the prompt has it already. None leaves tags in the text.
        tools: Names of the tools that the model may call.

    Attributes:
        text: Text beside the tool calls, without thoughts.
        finish_reason: The server's reason for the end; None while it streams, and after a cut.
        begun: Whether the client has been sent a part of it.
    """

    def __init__(
        self,
        turn: Turn,
        final: tuple[str, str] | None = None,
        think_tags: str | None = None,
        tools: Collection[str] = (),
    ) -> None:
        self.text: str = ""
        self.finish_reason: str | None = None
        self.begun: bool = False
        self._turn = turn
        self._final = final
        self._think_tags = think_tags
        self._usage = (0, 0)
        self._tools = tools
        self._start()

    def _start(self) -> None:
        self._calls = StreamedCalls(self._turn, self._final, self._tools)
        self._choice: int | None = None
        self._streamed = False
        self._refused = False
        self._fields: dict[str, Any] = {}
        self._text_joiner, self._thought_joiner = SurrogateJoiner(), SurrogateJoiner()
        self._tags: ThinkTags | None = None
        if (tags := self._think_tags) is not None:
            self._tags = ThinkTags(anywhere=tags == "anywhere", opened=tags == "opened")

    @property
    def learned_tags(self) -> str | None:
        """The `think_tags` that this answer shows for later ones, if any."""
        opened = None if self._tags is None else self._tags.opened
        return None if opened is None else "opened" if opened else "anywhere"

    @property
    def usage(self) -> tuple[int, int]:
        """Input and output tokens, as counted by the server."""
        return self._usage

    @property
    def calls(self) -> list[NamedCall]:
        """Tool calls in the order of their begin, without the final answer's."""
        return [
            NamedCall(str(call.call_id), call.name, readable_arguments("".join(call.arguments)))
            for call in self._made
        ]

    @property
    def answered(self) -> bool:
        """Whether the final tool has produced text."""
        return self._calls.answered

    @property
    def lacks_calls(self) -> bool:
        """Whether the server announced calls at the end, and sent none of use."""
        called = (self.finish_reason or "").lower() in _CALLED
        return called and not self.text and not self._calls.announced

    @property
    def fields(self) -> ServerFields:
        """Fields of the message and of its calls that have no meaning here."""
        calls = [(cleaned(call.fields), cleaned(call.function_fields)) for call in self._made]
        return ServerFields(cleaned(self._fields), calls)

    @property
    def cut_by(self) -> str | None:
        """Reason for an answer that ended early; None for a complete one."""
        if self._refused:
            return "refusal"
        return _CUTS.get((self.finish_reason or "").lower())

    @property
    def _made(self) -> list[StreamedCall]:
        return [call for call in self._calls.announced if call.answer is None or not self.answered]

    def restart(self) -> None:
        """Discard a failed attempt that the client has seen nothing of."""
        self._usage = (0, 0)
        self.finish_reason = None
        self._start()

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Output]:
        """Yield the outputs of a chunk.

        Raises:
            StreamCut: The server gave up.
        """
        self._add_usage(mapping(chunk.get("usage")))
        # The usage chunk has no choices.
        if (choice := self._choice_of(chunk)) is None:
            return
        yield from self._read_delta(self._delta_of(choice))
        reason = choice.get("finish_reason")
        if reason and str(reason).lower() not in _NO_REASON:
            self.finish_reason = string(reason) or "unknown"
        if self.finish_reason in _BROKEN:
            raise StreamCut("the server gave the answer up")

    def end(self) -> None:
        """Take the explicit end of a stream for the reason that is missing."""
        if self.finish_reason is None and (self.text or self._calls.announced):
            self.finish_reason = "stop"

    def _choice_of(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the choice that is read, always the same one of several."""
        choices = objects(chunk.get("choices"))
        indices = [position(choice.get("index")) for choice in choices]
        if self._choice is None:
            self._choice = (
                0 if 0 in indices else next((index for index in indices if index is not None), None)
            )
        if self._choice in indices:
            return choices[indices.index(self._choice)]
        return choices[indices.index(None)] if None in indices else None

    def _delta_of(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the delta of a choice, or the whole of an unstreamed answer."""
        if delta := mapping(choice.get("delta")):
            self._streamed = True
            return delta
        message = mapping(choice.get("message")) or {"content": choice.get("text")}
        return {} if self._streamed and self._repeats(message) else message

    def _repeats(self, message: Mapping[str, Any]) -> bool:
        """Return whether a message at the end is the answer once more."""
        whole = "".join(text for is_thought, text in parts(message.get("content")) if not is_thought)
        if whole and self.text:
            return whole.strip().endswith(self.text.strip())
        return not whole and bool(self._calls.announced)

    def finish(self) -> Iterator[Output]:
        """Yield the part that was held back until the end of the stream."""
        yield from self._thought(self._thought_joiner.finish())
        yield from self._text(self._text_joiner.finish())
        if self._tags is not None:
            whole = self.finish_reason is not None and self.cut_by is None and not self._calls.announced
            yield from self._split(self._tags.finish(whole=whole))
        yield from self._noted(self._calls.finish())

    def _read_delta(self, delta: Mapping[str, Any]) -> Iterator[Output]:
        keep_fields(self._fields, delta, _READ)
        thoughts = (list(parts(delta.get(name))) for name in _REASONING)
        for _, thought in next(filter(None, thoughts), ()):
            if self._tags is not None:
                self._tags.had_thought()
            yield from self._thought(self._thought_joiner.feed(thought))
        for is_thought, text in parts(delta.get("content")):
            if is_thought:
                yield from self._thought(self._thought_joiner.feed(text))
            else:
                yield from self._text(self._text_joiner.feed(text))
        for _, refusal in parts(delta.get("refusal")):
            self._refused = True
            yield from self._text(self._text_joiner.feed(refusal))
        for call in objects(delta.get("tool_calls")):
            yield from self._read_call(call)
        if legacy := mapping(delta.get("function_call")):
            yield from self._read_call({"function": legacy})

    def _thought(self, text: str) -> Iterator[Output]:
        for piece in slices(text):
            self.begun = True
            yield Thought(text=piece)

    def _text(self, text: str) -> Iterator[Output]:
        if text:
            yield from self._split([(False, text)] if self._tags is None else self._tags.feed(text))

    def _split(self, pieces: Iterable[tuple[bool, str]]) -> Iterator[Output]:
        for is_thought, text in pieces:
            if is_thought:
                yield from self._thought(text)
            else:
                self.begun = True
                self.text += text
                yield text

    def _read_call(self, delta: Mapping[str, Any]) -> Iterator[Output]:
        yield from self._noted(self._calls.read(delta))

    def _noted(self, outputs: Iterable[Output]) -> Iterator[Output]:
        """Yield outputs of calls; the final answer's text is this answer's text."""
        for output in outputs:
            self.begun = True
            if isinstance(output, str):
                self.text += output
            yield output

    def unannounced(self) -> Iterator[ToolCall]:
        """Yield the announcement of a final call that contained no answer."""
        return self._calls.unannounced()

    def _add_usage(self, usage: Mapping[str, Any]) -> None:
        """Add the server's count, which may come once or with every chunk."""
        new = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
        if any(new):
            before, self._usage = self._usage, new
            self._turn.add_usage(new[0] - before[0], new[1] - before[1])
