"""What an agent yields, checked before it waits: a bad output is the agent's fault and fails there."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import asdict, replace

from bargein_protocol import JSON, AgentOutput, DecodeError, Output

MAX_OUTPUT_BYTES = 1024 * 1024
TEXT_PIECE = 8192
"""Longer text is cut into pieces, so that an interrupt finds a seam and no frame is huge."""


class BadOutput(TypeError):
    """An agent yielded what cannot be sent; the message says what."""


def validated_output(output: object) -> tuple[AgentOutput, int]:
    """Return a copy of the output and about how many bytes it takes.

    It is what the client will decode: a dictionary that the agent goes on changing, or a struct of its
    own that is derived from ours, does no harm later.

    Raises:
        BadOutput: It is not an output, cannot be encoded, or breaks a bound of the protocol.
    """
    if not isinstance(output, Output):
        raise BadOutput(f"expected a str or an output of bargein_protocol, got {type(output).__name__}")
    try:
        try:
            frame = JSON.encode(output)  # type: ignore[arg-type]
        except UnicodeEncodeError:
            output = _without_surrogates(output)
            frame = JSON.encode(output)  # type: ignore[arg-type]
        copy = JSON.decode_server(frame)
    except (DecodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadOutput(f"{type(output).__name__} cannot be sent: {error}") from error
    if not isinstance(copy, Output):
        raise BadOutput(f"expected a str or an output of bargein_protocol, got {type(output).__name__}")
    if len(frame) > MAX_OUTPUT_BYTES:
        raise BadOutput(
            f"{type(output).__name__} takes {len(frame)} bytes, at most {MAX_OUTPUT_BYTES} can be sent"
        )
    return copy, len(frame)


def split_text(text: str) -> Iterator[str]:
    """Cut a long text into pieces."""
    return (text[start : start + TEXT_PIECE] for start in range(0, len(text), TEXT_PIECE))


def _without_surrogates(output: Output) -> Output:
    fields = {
        name: value.encode("utf-8", "replace").decode()
        for name, value in asdict(output).items()
        if isinstance(value, str)
    }
    return replace(output, **fields)
