"""Boundary to the code of authors: their exits and their output.

asyncio lets `SystemExit` and `KeyboardInterrupt` of any task out of the event loop, and the process ends
with all of its sessions. Libraries call `sys.exit()`, as `argparse` does inside a tool. Such an exit is
a failure of the call that made it and of nothing else.

Output is validated at the `yield`, so that an invalid one fails in the agent: by a round trip through the
JSON codec. It is encoded, and decoded as a client does, so the result shares nothing with the agent's
objects. What the codec refuses for its form is made plain and tried again. Audio takes no part in the round
trip, because its base64 would cost far more than all the rest; its type and its length are checked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, TypeVar, cast

from msgspec import json
from msgspec.structs import replace

from bargein_protocol import (
    JSON,
    AgentOutput,
    AudioDelta,
    DecodeError,
    Output,
    ToolConfirm,
    ToolResult,
    ToolRunning,
)
from bargein_protocol.open_values import server_value_fault
from bargein_protocol.types import MAX_AUDIO_BYTES

from .plain_values import ERRORS, plain_text, plain_value, text_of

T = TypeVar("T")

EXITS = (SystemExit, KeyboardInterrupt)


class AuthorExit(RuntimeError):
    """Attempt of an author's code to end the process; the cause is its exit."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"expected an Exception, the call raised {type(error).__name__}: {error}")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of nested groups, or the exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


class NoThreadFree(Exception):
    """No thread was free for a blocking function in time."""


class Contained(Coroutine[Any, Any, T]):
    """Coroutine of an author whose exits are raised as `AuthorExit`.

    It passes each step on, so that a task which is cancelled before its first step cancels the author's
    coroutine as it would without this class.
    """

    __slots__ = ("_work",)

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the coroutine: asyncio prints its name and stack."""
        return getattr(self._work, name)

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            return (yield from self._work.__await__())
        except EXITS as error:
            raise AuthorExit(error) from error

    def send(self, value: Any) -> Any:
        """Run the next step."""
        try:
            return self._work.send(value)
        except EXITS as error:
            raise AuthorExit(error) from error

    def throw(self, *error: Any) -> Any:
        """Raise an exception where the coroutine stands."""
        try:
            return self._work.throw(*error)
        except EXITS as exit_:
            raise AuthorExit(exit_) from exit_
        finally:
            del error  # its traceback has this frame: a cycle, which only the collector frees

    def close(self) -> None:
        """Close the coroutine."""
        try:
            self._work.close()
        except EXITS as error:
            raise AuthorExit(error) from error


def call_contained(function: Callable[[], T]) -> T:
    """Call a function of an author in a thread.

    Raises:
        AuthorExit: It raised an exit, or `StopIteration`, which no future can hold.
    """
    try:
        return function()
    except (*EXITS, StopIteration) as error:
        raise AuthorExit(error) from error


MAX_OUTPUT_BYTES = 1024 * 1024
"""Maximum size of an output's frame, in bytes of JSON."""
TEXT_PIECE = 8192
"""Maximum characters per text frame; longer text is split, so that an interrupt can cut it."""

MAX_RESULT_CHARS = 100_000
"""Maximum characters of a tool's result that is shortened because its frame would be too large."""
MAX_ERROR_CHARS = 4096
"""Maximum characters of a tool's error."""

_NOT_SENT = (DecodeError, TypeError, ValueError, OverflowError, RecursionError)
_OPEN_FIELDS = ("value", "output", "arguments")


class BadOutput(TypeError):
    """An output of an agent cannot be sent; the message names the reason."""


def validated_output(output: object) -> tuple[AgentOutput, int]:
    """Return a copy of the output, and the size of its JSON frame in bytes.

    The copy equals the event that a client decodes. It is independent of the agent's objects: a
    dictionary that the agent changes later and a subclass of an output struct do no harm. Subclasses of
    `str`, lone surrogates and objects such as models are converted (`plain_values`). The output of a
    `ToolResult` is never refused, because the tool has run: it becomes text and is cut if need be.

    Raises:
        BadOutput: The object is not an output, cannot be encoded, or exceeds a bound of the protocol.
    """
    if not isinstance(output, Output):
        raise BadOutput(f"expected a str or an output of bargein_protocol, got {type(output).__name__}")
    try:
        if isinstance(output, ToolResult) and server_value_fault(output) is not None:
            output = _plain_result(output)  # first, because the codec would encode any number of values
        try:
            copy, size = _round_trip(output)
        except _NOT_SENT:
            copy, size = _round_trip(_plain_output(output))
        if size > MAX_OUTPUT_BYTES and isinstance(copy, ToolResult):
            copy, size = _round_trip(replace(copy, output=_shortened(copy.output)))
    except _NOT_SENT as error:
        raise BadOutput(f"{type(output).__name__} cannot be sent: {error}") from error
    if not isinstance(copy, Output):
        raise BadOutput(f"expected a str or an output of bargein_protocol, got {type(output).__name__}")
    if size > MAX_OUTPUT_BYTES:
        raise BadOutput(f"{type(output).__name__} takes {size} bytes, at most {MAX_OUTPUT_BYTES} can be sent")
    return cast("AgentOutput", copy), size


def _round_trip(output: Output) -> tuple[Any, int]:
    """Return the event that a client decodes, and the size of its frame."""
    audio = None
    if type(output) is AudioDelta and isinstance(output.audio, (bytes, bytearray)):
        audio = bytes(output.audio)  # copies only a bytearray
        output = replace(output, audio=b"")
    frame = JSON.encode(output)  # type: ignore[arg-type]
    copy = JSON.decode_server(frame)
    if audio is None:
        return copy, len(frame)
    return _with_audio(copy, audio), len(frame) + (len(audio) + 2) // 3 * 4  # in base64


def _plain_output(output: Output) -> Output:
    """Return the output with plain values in its fields."""
    if isinstance(output, ToolResult):
        return _plain_result(output)
    plain: dict[str, Any] = {}
    for name in output.__struct_fields__:
        value = getattr(output, name)
        if isinstance(value, str):
            plain[name] = plain_text(value)
        elif name in _OPEN_FIELDS:
            plain[name] = plain_value(value, any_object=isinstance(output, (ToolRunning, ToolConfirm)))
    return replace(output, **plain)


def _plain_result(result: ToolResult) -> ToolResult:
    """Return a tool's result with plain values within the bounds."""
    error, took = result.error, result.duration_ms
    try:
        output = plain_value(result.output, any_object=True, cut=True)
    except ERRORS:  # the author's object raises while it is read
        output = f"<{type(result.output).__name__}>"
    return replace(
        result,
        call_id=plain_text(result.call_id),
        source=plain_text(result.source),
        output=output,
        error=None if error is None else text_of(error)[:MAX_ERROR_CHARS],
        duration_ms=max(0, int(took)) if isinstance(took, float) else took,
    )


def _shortened(value: Any) -> str:
    """Return the beginning of a result that is too long for a frame."""
    text = value if isinstance(value, str) else json.encode(value).decode()
    return f"{text[:MAX_RESULT_CHARS]}… [the first {MAX_RESULT_CHARS} of {len(text)} characters]"


def _with_audio(copy: object, audio: bytes) -> AudioDelta:
    """Return a validated `AudioDelta` with its audio, after a length check."""
    assert isinstance(copy, AudioDelta)
    if len(audio) > MAX_AUDIO_BYTES:
        raise ValueError(f"Expected `bytes` of length <= {MAX_AUDIO_BYTES} - at `$.audio`")
    return replace(copy, audio=audio)


def split_text(text: str) -> Iterator[str]:
    """Split a text into pieces of at most `TEXT_PIECE` characters.

    A subclass of `str`, such as LangChain's text, becomes exact strings.
    """
    text = plain_text(text)
    return (text[start : start + TEXT_PIECE] for start in range(0, len(text), TEXT_PIECE))
