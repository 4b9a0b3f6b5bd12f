"""Tool calls of one model call, put together from pieces of its stream.

Servers differ in the fields by which pieces belong together, in the place of the name, and in the form of
the arguments. A call is announced when its name is whole. That is so when a tool has this name and no other
tool has a longer one that begins with it, or when arguments follow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from bargein_protocol import CallId, ToolCall, ToolCallDelta
from bargein_protocol.types import MAX_NAME_CHARS
from bargein_server.agent import Output, Turn

from .model_fields import (
    SurrogateJoiner,
    arguments,
    identifier,
    keep_fields,
    mapping,
    position,
    slices,
    string,
)
from .string_field import StringField
from .tool_sources import find_name

_NAMESPACE = re.compile(r".*[.:/]")

# Fields with a meaning of their own; all others are kept as they came.
_READ_OF_CALLS = frozenset(
    {"index", "id", "type", "function", "name", "arguments", "custom", "input", "parameters"}
)
_READ_OF_FUNCTIONS = frozenset({"name", "arguments", "parameters"})


class StreamedCall:
    """Tool call of a stream.

    Attributes:
        call_id: Its id in the session; None until it is announced.
        given_id: The server's id.
        written_name: Name as the server wrote it, so far.
        name: Name of the tool.
        arguments: Pieces of the arguments.
        held: Arguments `{}`, which some servers send before the real ones.
        answer: Reader of the answer's field; None if the call is not the final answer.
        fields: Fields of the call that have no meaning here.
        function_fields: Fields of its `function` that have no meaning here.
    """

    def __init__(self, given_id: str) -> None:
        self.call_id: CallId | None = None
        self.given_id = given_id
        self.written_name: str = ""
        self.name: str = ""
        self.arguments: list[str] = []
        self.held: str = ""
        self.joiner = SurrogateJoiner()
        self.answer: StringField | None = None
        self.fields: dict[str, Any] = {}
        self.function_fields: dict[str, Any] = {}
        self._again = ""  # the part of the arguments that was repeated

    def repeats(self, given_id: str, piece: str) -> bool:
        """Return whether a piece repeats the whole arguments, as at some ends."""
        if not piece or not given_id or given_id != self.given_id or self.held or not self.is_complete:
            return False
        whole = "".join(self.arguments).strip()
        again = ("" if self._again == whole else self._again) + piece.strip()
        if not whole.startswith(again):
            return False
        self._again = again
        return True

    @property
    def has_arguments(self) -> bool:
        """Whether its arguments have begun, so that its name is whole."""
        return bool(self.arguments or self.held)

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        text = ("".join(self.arguments) or self.held).strip()
        if not text.endswith("}"):
            return False
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True


class StreamedCalls:
    """Reader of the tool calls of one answer.

    Args:
        turn: The turn.
        final: The tool whose call is the answer, and the field of it that becomes text.
        tools: Names of the tools that the model may call; names are taken as they come without any.

    Attributes:
        answered: Whether the final tool has produced text.
    """

    def __init__(self, turn: Turn, final: tuple[str, str] | None, tools: Collection[str]) -> None:
        self.answered: bool = False
        self._turn = turn
        self._final = final
        self._tools = tools
        self._calls: list[StreamedCall] = []
        self._newest: dict[int, StreamedCall] = {}
        # Ids and arguments that came before a name.
        self._nameless: dict[int | None, tuple[str, str]] = {}

    @property
    def announced(self) -> list[StreamedCall]:
        """Calls in the order of their begin."""
        return [call for call in self._calls if call.call_id is not None]

    def read(self, delta: Mapping[str, Any]) -> Iterator[Output]:
        """Yield a piece's outputs: announcement, arguments, final answer's text."""
        custom = mapping(delta.get("custom"))  # a call whose arguments are plain text
        function = mapping(delta.get("function")) or custom or delta
        name = string(function.get("name"))[:MAX_NAME_CHARS]
        piece = arguments(function.get("input" if custom else "arguments"))
        if not piece and isinstance(whole := function.get("parameters"), dict):
            piece = arguments(whole)
        given_id, index = identifier(delta.get("id")), position(delta.get("index"))
        call = self._call_of(given_id, index, name)
        if call is not None and call.repeats(given_id, piece):
            return
        if call is not None and piece.lstrip().startswith("{") and call.is_complete:
            is_same = bool(given_id) and given_id == call.given_id
            if not call.held or (name and not is_same):
                name, call = name or call.written_name, None
        if call is None:
            before_id, before = self._nameless.pop(index, ("", ""))
            given_id, piece = given_id or before_id, before + piece
            if not name:
                self._nameless[index] = given_id, piece
                return
            call = StreamedCall(given_id)
            self._calls.append(call)
        if index is not None:
            self._newest[index] = call
        keep_fields(call.fields, delta, _READ_OF_CALLS)
        if function is not delta and function is not custom:
            keep_fields(call.function_fields, function, _READ_OF_FUNCTIONS)
        self._add_name(call, name)
        if call.call_id is None and (piece or self._is_whole(call.name)):
            yield from self._announce(call)
        yield from self._add_arguments(call, piece)

    def finish(self) -> Iterator[Output]:
        """Yield the parts that were held back until the end of the stream."""
        for given_id, piece in self._nameless.values():
            # Some servers write the name into the id alone.
            if given_id and find_name(given_id, self._tools) is not None:
                call = StreamedCall(given_id)
                self._calls.append(call)
                self._add_name(call, given_id)
                yield from self._announce(call)
                yield from self._add_arguments(call, piece)
        self._nameless.clear()
        for call in self._calls:
            if call.call_id is None:
                yield from self._announce(call)
            held, call.held = call.held, ""
            yield from self._send_arguments(call, held + call.joiner.finish())

    def unannounced(self) -> Iterator[ToolCall]:
        """Yield the announcement of a final call that contained no answer."""
        if not self.answered:
            for call in self._calls:
                if call.answer is not None and call.call_id is not None:
                    yield ToolCall(call_id=call.call_id, name=call.name)

    def _call_of(self, given_id: str, index: int | None, name: str) -> StreamedCall | None:
        """Return the call that a piece continues, None for a new one.

        Servers tell calls apart by `id`, by `index`, or by neither: some number all calls 0, some send no
        number, some send the id with the first piece only, or another id with each.
        """
        last = self._calls[-1] if self._calls else None
        numbered = last if index is None else self._newest.get(index)
        known = next((call for call in reversed(self._calls) if given_id and call.given_id == given_id), None)
        call: StreamedCall | None
        if known is not None:
            if name and numbered is None:
                return None  # the same id at another number: the server's ids are not unique
            call = numbered if numbered is not None and numbered.given_id == given_id else known
        elif name:
            call = numbered
            if call is not None and given_id:
                if call.given_id:
                    return None
                call.given_id = given_id if self._is_name_of(call, name) else ""
        elif numbered is None and index is not None and last is not None and last.is_complete:
            call = None  # the begin of a call whose name follows
        else:
            call = numbered or last
        return None if call is None or (name and not self._is_name_of(call, name)) else call

    def _is_name_of(self, call: StreamedCall, piece: str) -> bool:
        """Return whether a name, or a piece of one, belongs to a call."""
        return self._longer_name(call, piece) is not None

    def _longer_name(self, call: StreamedCall, piece: str) -> str | None:
        """Return the name with one more piece; None if it is another call's name."""
        written, tools = call.written_name, self._tools
        if piece == written and (call.has_arguments or not tools or find_name(written, tools) is not None):
            return written  # repeated
        own = find_name(piece, tools)
        if call.has_arguments or not tools:
            return written if own is not None and own == call.name else None
        bare = _NAMESPACE.sub("", written) + piece
        if _begins_one(bare, tools) or find_name(written + piece, tools) is not None:
            return written + piece
        if piece.startswith(written) and (own is not None or _begins_one(piece, tools)):
            return piece  # some servers send the whole name so far
        if own is not None:
            return piece if own == call.name else None
        return written + piece if call.name not in tools else None

    def _add_name(self, call: StreamedCall, piece: str) -> None:
        if not piece:
            return
        longer = self._longer_name(call, piece) if call.written_name else piece
        if longer is None:
            return
        call.written_name = longer[:MAX_NAME_CHARS]
        if call.call_id is None:
            call.name = find_name(call.written_name, self._tools) or call.written_name

    def _is_whole(self, name: str) -> bool:
        if not self._tools:
            return True
        return name in self._tools and not any(
            other != name and other.startswith(name) for other in self._tools
        )

    def _announce(self, call: StreamedCall) -> Iterator[Output]:
        call.call_id = self._turn.tools.claim(call.given_id)
        if self._final is not None and call.name == self._final[0]:
            call.answer = StringField(self._final[1])
        else:
            yield ToolCall(call_id=call.call_id, name=call.name)

    def _add_arguments(self, call: StreamedCall, piece: str) -> Iterator[Output]:
        if not call.arguments and piece.strip() == "{}":
            call.held = piece
            return
        if call.held and piece:
            piece = piece if piece.lstrip().startswith("{") else call.held + piece
            call.held = ""
        yield from self._send_arguments(call, call.joiner.feed(piece))

    def _send_arguments(self, call: StreamedCall, piece: str) -> Iterator[Output]:
        if not piece or call.call_id is None:
            return
        call.arguments.append(piece)
        if call.answer is None:
            for part in slices(piece):
                yield ToolCallDelta(call_id=call.call_id, arguments=part)
            return
        text = call.answer.feed(piece)
        self.answered = self.answered or call.answer.complete or bool(text)
        if text:
            yield text


def _begins_one(name: str, tools: Collection[str]) -> bool:
    return any(tool.startswith(name) for tool in tools)
