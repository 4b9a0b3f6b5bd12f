"""`bargein batch`: answers for a file of inputs, in order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit, urlunsplit

import msgspec

from bargein_protocol import BatchInput, BatchRequest, BatchResult, ErrorEvent, errors

from ..channel import OPEN_TIMEOUT_S, is_loopback
from ..errors import BargeinError, ConnectError
from ..sse_channel import readable, stream_errors
from .consent import REFUSED_EXIT_CODE, Policy, refusals
from .terminal import escape_json, moves_cursor, neutralise

MAX_INPUTS = 500
MAX_BYTES = 1024 * 1024
"""Bounds of one request; a longer file takes several. A server accepts more."""

_BAR = 24
_encode = msgspec.json.Encoder().encode


class BadLine(BargeinError):
    """A line of the file is not a valid input.

    Attributes:
        number: Number of the line, from 1.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number


def read_inputs(lines: Sequence[str]) -> list[BatchInput]:
    """Return the input of each line that is not empty.

    A line holds the text, or a JSON object with `text`, `id` and `metadata`.

    Raises:
        BadLine: A line begins with a brace and is not such an object.
    """
    inputs = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("{"):
            try:
                inputs.append(msgspec.json.decode(line, type=BatchInput))
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                raise BadLine(number, str(error)) from None
        elif line.strip():
            inputs.append(BatchInput(text=line.strip()))
    return inputs


def split_lines(data: bytes) -> list[str]:
    """Return the lines of a file without a byte order mark.

    Only a newline, alone or after a carriage return, ends a line. The other separators of Unicode are
    part of a text, as in JSON.
    """
    return data.decode("utf-8-sig", "replace").replace("\r\n", "\n").split("\n")


def in_requests(inputs: Sequence[BatchInput]) -> Iterator[Sequence[BatchInput]]:
    """Split a long list into the inputs of one request each."""
    start = size = 0
    for index, item in enumerate(inputs):
        size += len(_encode(item))
        if index > start and (index - start >= MAX_INPUTS or size > MAX_BYTES):
            yield inputs[start:index]
            start, size = index, len(_encode(item))
    if start < len(inputs):
        yield inputs[start:]


class ProgressBar:
    """Progress bar on a line of its own, on terminals only.

    Args:
        total: Number of expected results.
        out: Output stream.
    """

    def __init__(self, total: int, out: TextIO) -> None:
        self._total = total
        self._out = out
        self._shown = moves_cursor(out)

    def show(self, done: int, failed: int) -> None:
        """Draw the bar."""
        if self._shown:
            full = _BAR * done // self._total
            failures = f"  {failed} failed" if failed else ""
            bar = "█" * full + "░" * (_BAR - full)
            self._out.write(f"\r\x1b[K{bar} {done}/{self._total}{failures}")
            self._out.flush()

    def clear(self) -> None:
        """Remove the bar."""
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()


class Writer:
    """Writes results in the order of their inputs, each as early as possible.

    Args:
        write: Called with each result.

    Attributes:
        done: Number of results so far.
        failed: Number of results with another status than `completed`.
        refused: Names of the tools that were refused.
    """

    def __init__(self, write: Callable[[BatchResult], None]) -> None:
        self.done = self.failed = 0
        self.refused: list[str] = []
        self._write = write
        self._next = 0
        self._early: dict[int, BatchResult] = {}

    def add(self, result: BatchResult) -> None:
        """Add a result, in any order."""
        self.done += 1
        self.failed += result.status != "completed"
        self.refused += result.refused_tools
        self._early[result.index] = result
        while (ready := self._early.pop(self._next, None)) is not None:
            self._next += 1
            self._write(ready)


async def run_batch(
    url: str, file: str, *, token: str | None, concurrency: int | None, policy: Policy = "refuse"
) -> int:
    """Answer the inputs of a file; write a line of JSON for each, in order.

    Args:
        url: URL of the server's socket.
        file: Name of the file; `-` for standard input.
        token: A credential.
        concurrency: Number of inputs answered at a time; None for the server's limit.
        policy: Answer to tool calls that need consent; a batch cannot ask.

    Returns:
        0 when all inputs completed, 1 when one did not, 3 when all did but tools were refused without `--no`.

    Raises:
        BargeinError: A line is not a valid input, or the server answers no batches.
    """
    inputs = read_inputs(split_lines(await asyncio.to_thread(_read, file)))
    bar = ProgressBar(len(inputs), sys.stderr)
    out = sys.stdout

    def write(result: BatchResult) -> None:
        if out.isatty():
            bar.clear()
        out.write(escape_json(_encode(result).decode()) + "\n")
        out.flush()

    writer = Writer(write)
    try:
        for part in in_requests(inputs):
            first = writer.done
            request = BatchRequest(inputs=list(part), concurrency=concurrency, allow_tools=policy == "yes")
            async for result in _answers(url, request, token):
                writer.add(msgspec.structs.replace(result, index=first + result.index))
                bar.show(writer.done, writer.failed)
    finally:
        bar.clear()
    if writer.failed:
        print(f"bargein: {writer.failed} of {len(inputs)} failed", file=sys.stderr)
    if writer.refused and policy != "no":
        print(f"bargein: {refusals(writer.refused, policy)}", file=sys.stderr)
        return 1 if writer.failed else REFUSED_EXIT_CODE
    return 1 if writer.failed else 0


async def _answers(url: str, request: BatchRequest, token: str | None) -> AsyncIterator[BatchResult]:
    """Yield a result for every input; an input without an answer fails."""
    missing = dict(enumerate(request.inputs))
    async for result in _ask(batch_url(url), request, token):
        missing.pop(result.index, None)
        yield result
    for index, item in missing.items():
        yield BatchResult(index=index, id=item.id, status="failed", reason="connection_lost", retryable=True)


async def _ask(url: str, request: BatchRequest, token: str | None) -> AsyncIterator[BatchResult]:
    import httpx2

    headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    timeout = httpx2.Timeout(OPEN_TIMEOUT_S, read=None)
    begun = False
    async with httpx2.AsyncClient(timeout=timeout, trust_env=not is_loopback(url)) as client:
        try:
            async with client.stream("POST", url, content=_encode(request), headers=headers) as response:
                if response.status_code != HTTPStatus.OK:
                    raise _refused(url, response.status_code, await response.aread())
                begun = True
                async for line in _lines(response.aiter_bytes()):
                    yield msgspec.json.decode(line, type=BatchResult)
        except stream_errors() as error:
            if not begun:
                raise ConnectError(url, readable(error)) from None
        except msgspec.MsgspecError:
            pass  # an incomplete line, because the connection broke


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines; a text of JSON may hold every other separator of Unicode."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in filter(None, whole):
            yield line
    if rest:
        yield rest


def _refused(url: str, status: int, body: bytes) -> ConnectError:
    why = f"the server answered with HTTP status {status}"
    with suppress(msgspec.MsgspecError, UnicodeError):
        event = msgspec.json.decode(body, type=ErrorEvent)
        why = neutralise(event.message or why)
    return ConnectError(url, why, code=errors.UNAUTHORIZED if status == 401 else None, status=status)


def batch_url(url: str) -> str:
    """Return the URL of batches for the URL of a socket."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    place = parts.path.rstrip("/").rpartition("/")[0]
    return urlunsplit((scheme, parts.netloc, f"{place}/batch", "", ""))


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BargeinError(f"cannot read {file}: {error.strerror}") from None
