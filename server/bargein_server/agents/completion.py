"""Result of one model call, built up from the chunks of its stream.

A chunk is decoded JSON of any shape: a field that is missing, null or of another type is left out, and
nothing here raises for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bargein_protocol import CallId, Thought, ToolCall, ToolCallDelta
from bargein_protocol.types import MAX_NAME_CHARS
from bargein_server.agent import NamedCall, Output, Turn

from .event_stream import StreamCut
from .kept_messages import ServerFields
from .model_fields import (
    SurrogateJoiner,
    arguments,
    cleaned,
    count,
    identifier,
    mapping,
    merged,
    objects,
    parts,
    position,
    string,
)
from .string_field import StringField
from .think_tags import ThinkTags

_REASONING = ("reasoning_content", "reasoning", "thinking")
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
_READ_OF_CALLS = frozenset({"index", "id", "type", "function", "name", "arguments"})
_READ_OF_FUNCTIONS = frozenset({"name", "arguments"})


class _Announced:
    """Tool call whose name has arrived; its arguments follow."""

    def __init__(self, call_id: CallId, given_id: str, name: str, answer: StringField | None) -> None:
        self.call_id = call_id
        self.given_id = given_id
        self.name = name
        self.arguments: list[str] = []
        self.joiner = SurrogateJoiner()
        self.answer = answer
        self.fields: dict[str, Any] = {}
        self.function_fields: dict[str, Any] = {}

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        text = "".join(self.arguments).strip()
        if not text.endswith("}"):
            return False
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True


class Completion:
    """Result of one model call so far: text, tool calls, usage.

    Args:
        turn: The turn.
        final: The tool whose call is the answer, and the field of it that becomes text.
        think_tags: Whether `<think>` in the text begins a thought: at any place, or only at its begin.
            None leaves tags in the text.

    Attributes:
        text: Text beside the tool calls, without thoughts.
        finish_reason: The server's reason for the end; None while it streams, and after a cut.
        begun: Whether the client has been sent a part of it.
        answered: Whether the final tool has produced text.
    """

    def __init__(
        self, turn: Turn, final: tuple[str, str] | None = None, think_tags: str | None = None
    ) -> None:
        self.text: str = ""
        self.finish_reason: str | None = None
        self.begun: bool = False
        self.answered: bool = False
        self._turn = turn
        self._final = final
        self._think_tags = think_tags
        self._usage = (0, 0)
        self._calls: list[_Announced] = []
        self._start()

    def _start(self) -> None:
        self._newest: dict[int, _Announced] = {}
        self._nameless: dict[int | None, str] = {}  # arguments that came before a name
        self._refused = False
        self._fields: dict[str, Any] = {}
        self._text_joiner, self._thought_joiner = SurrogateJoiner(), SurrogateJoiner()
        self._tags = ThinkTags(anywhere=self._think_tags == "anywhere") if self._think_tags else None

    @property
    def usage(self) -> tuple[int, int]:
        """Input and output tokens, as counted by the server."""
        return self._usage

    @property
    def calls(self) -> list[NamedCall]:
        """Tool calls in the order of their begin, without the final answer's."""
        return [NamedCall(call.call_id, call.name, _readable("".join(call.arguments))) for call in self._made]

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
    def _made(self) -> list[_Announced]:
        return [call for call in self._calls if call.answer is None or not self.answered]

    def restart(self) -> None:
        """Discard a failed attempt that the client has seen nothing of."""
        self._calls.clear()
        self._usage = (0, 0)
        self.finish_reason = None
        self._start()

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Output]:
        """Yield the outputs of a chunk.

        Raises:
            StreamCut: The server gave up.
        """
        self._add_usage(mapping(chunk.get("usage")))
        # The usage chunk has no choices. One choice is requested; some servers send others beside it.
        choices = objects(chunk.get("choices"))
        for choice in [choice for choice in choices if position(choice.get("index")) == 0][:1] or choices[:1]:
            # A server that does not stream sends a message instead of deltas.
            delta = mapping(choice.get("delta")) or mapping(choice.get("message"))
            yield from self._read_delta(delta)
            reason = choice.get("finish_reason")
            if reason:
                self.finish_reason = string(reason) or "unknown"
            if self.finish_reason in _BROKEN:
                raise StreamCut("the server gave the answer up")

    def finish(self) -> Iterator[Output]:
        """Yield the part that was held back until the end of the stream."""
        for call in self._calls:
            call.arguments.append(call.joiner.finish())
        yield from self._thought(self._thought_joiner.finish())
        yield from self._text(self._text_joiner.finish())
        if self._tags is not None:
            yield from self._split(self._tags.finish())

    def _read_delta(self, delta: Mapping[str, Any]) -> Iterator[Output]:
        _keep(self._fields, delta, _READ)
        reasoning = next((value for name in _REASONING if (value := delta.get(name))), None)
        for _, thought in parts(reasoning):
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
        if text:
            self.begun = True
            yield Thought(text=text)

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
        function = mapping(delta.get("function")) or delta
        name, piece = string(function.get("name"))[:MAX_NAME_CHARS], arguments(function.get("arguments"))
        given_id, index = identifier(delta.get("id")), position(delta.get("index"))
        call = self._call_of(given_id, index, name)
        if call is not None and piece.lstrip().startswith("{") and call.is_complete:
            if given_id and given_id == call.given_id:
                return  # some servers repeat the whole arguments at the end
            name, call = name or call.name, None
        if call is None:
            if not name:
                self._nameless[index] = self._nameless.get(index, "") + piece
                return
            piece = self._nameless.pop(index, "") + piece
            call = self._announce(given_id, name)
            if call.answer is None:
                yield ToolCall(call_id=call.call_id, name=call.name)
        if index is not None:
            self._newest[index] = call
        _keep(call.fields, delta, _READ_OF_CALLS)
        if function is not delta:
            _keep(call.function_fields, function, _READ_OF_FUNCTIONS)
        if piece := call.joiner.feed(piece):
            call.arguments.append(piece)
            yield from self._read_arguments(call, piece)

    def _read_arguments(self, call: _Announced, piece: str) -> Iterator[Output]:
        if call.answer is None:
            yield ToolCallDelta(call_id=call.call_id, arguments=piece)
            return
        text = call.answer.feed(piece)
        self.answered = self.answered or call.answer.complete or bool(text)
        if text:
            self.begun = True
            self.text += text
            yield text

    def _call_of(self, given_id: str, index: int | None, name: str) -> _Announced | None:
        """Return the call that a delta continues, None for a new one.

        Servers tell calls apart by `id`, by `index`, or by neither: some number all calls 0, some send no
        number, some send the id with the first piece only, or another id with each.
        """
        last = self._calls[-1] if self._calls else None
        numbered = last if index is None else self._newest.get(index)
        known = next((call for call in reversed(self._calls) if given_id and call.given_id == given_id), None)
        call: _Announced | None
        if known is not None:
            if name and numbered is None:
                return None  # the same id at another number: the server's ids are not unique
            call = numbered if numbered is not None and numbered.given_id == given_id else known
        elif name:
            call = numbered
            if call is not None and given_id:
                if call.given_id:
                    return None
                call.given_id = given_id if call.name == name else ""
        elif numbered is None and index is not None and last is not None and last.is_complete:
            call = None  # the begin of a call whose name follows
        else:
            call = numbered or last
        return None if call is None or (name and name != call.name) else call

    def _announce(self, given_id: str, name: str) -> _Announced:
        is_final = self._final is not None and name == self._final[0]
        answer = StringField(self._final[1]) if self._final is not None and is_final else None
        self.begun = self.begun or answer is None
        call = _Announced(self._turn.tools.claim(given_id), given_id, name, answer)
        self._calls.append(call)
        return call

    def unannounced(self) -> Iterator[ToolCall]:
        """Yield the announcement of a final call that contained no answer."""
        if not self.answered:
            for call in self._calls:
                if call.answer is not None:
                    yield ToolCall(call_id=call.call_id, name=call.name)

    def _add_usage(self, usage: Mapping[str, Any]) -> None:
        """Add the server's count, which may come once or with every chunk."""
        new = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
        if any(new):
            before, self._usage = self._usage, new
            self._turn.add_usage(new[0] - before[0], new[1] - before[1])


_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _readable(text: str) -> str:
    """Return arguments without escapes of half surrogate pairs."""
    if not _SURROGATE_ESCAPE.search(text):
        return text
    try:
        return json.dumps(cleaned(json.loads(text)), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _keep(fields: dict[str, Any], delta: Mapping[str, Any], read: frozenset[str]) -> None:
    for name, value in delta.items():
        if name not in read:
            fields[name] = merged(fields.get(name), value)
