"""Agent for any model server with OpenAI's chat-completions API.

Only a request that fails before its first token is retried: later, a second answer would begin in the
middle of the first. The wait that a server names is respected. If it names more than a minute, there is no
retry, and the failed turn is marked retryable.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from email.utils import parsedate_to_datetime
from inspect import Parameter, Signature
from time import time
from typing import Any

try:
    import httpx2
    import openai
    from openai.types.chat import ChatCompletionChunk
except ImportError as error:
    raise ImportError(
        f'OpenAIAgent needs {error.name}: pip install "bargein[openai]"', name=error.name
    ) from None

from bargein_protocol import CallId, Status, StepEnded, ToolResult
from bargein_server.agent import Message, Output, Turn, TurnFailed, calls_message, result_message

from .completion import Completion, ModelCall
from .tool_loop import ToolRunner
from .tool_sources import Toolset, ToolSource
from .tools import Tool

FIRST_WAIT_S = 0.5
LONGEST_BACKOFF_S = 8.0
LONGEST_WAIT_S = 60.0
_STATUS_AFTER_S = 2.0
_STATUS_EVERY_S = 10.0

_RETRYABLE = frozenset({408, 409, 429})


class StreamCut(Exception):
    """A stream ended before the model was done, or went silent."""


Failure = openai.OpenAIError | json.JSONDecodeError | UnicodeDecodeError | StreamCut
FAILURES = (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, StreamCut)
"""Failures between here and a model: errors of the SDK, events that are not JSON, silence."""


class Retries:
    """Retries of one request.

    Args:
        most: Maximum number of retries.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._backoff_s = FIRST_WAIT_S

    def wait_s(self, failure: Failure) -> float | None:
        """Return the seconds before the next attempt; None if there is none."""
        if self._left == 0 or not _may_pass_at_once(failure):
            return None
        self._left -= 1
        named = _named_wait_s(failure)
        if named is not None:
            return named if named <= LONGEST_WAIT_S else None
        wait_s, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        return wait_s * random.uniform(0.75, 1.0)


async def wait_with_status(seconds: float) -> AsyncGenerator[Status, None]:
    """Wait, and yield a status now and then so that a long wait is visible."""
    while seconds > 0:
        if seconds > _STATUS_AFTER_S:
            yield Status(message="The model is busy, waiting for it", icon="clock")
        step_s = min(seconds, _STATUS_EVERY_S)
        await asyncio.sleep(step_s)
        seconds -= step_s


@contextmanager
def failing_upstream() -> Iterator[None]:
    """Raise failures of the model as `TurnFailed`; peers do not see the cause."""
    try:
        yield
    except FAILURES as error:
        reason = "overload" if _pool_was_full(error) else "upstream"
        raise TurnFailed(reason, retryable=_may_pass(error)) from error


def _pool_was_full(failure: BaseException) -> bool:
    """Return whether the connection pool was full, so nothing was sent."""
    return isinstance(failure.__cause__, httpx2.PoolTimeout)


def _may_pass(failure: BaseException) -> bool:
    if isinstance(failure, openai.APIStatusError):
        return failure.status_code in _RETRYABLE or failure.status_code >= 500
    return True


def _may_pass_at_once(failure: Failure) -> bool:
    """Return whether an immediate retry may succeed."""
    if _pool_was_full(failure):
        return False  # it has waited in the pool already
    if isinstance(failure, (openai.APIStatusError, openai.APIConnectionError, StreamCut)):
        advice = failure.response.headers.get("x-should-retry") if isinstance(
            failure, openai.APIStatusError) else None  # fmt: skip
        return advice == "true" or (advice != "false" and _may_pass(failure))
    return False


def _named_wait_s(failure: Failure) -> float | None:
    """Return the wait that the server asks for, in seconds (RFC 9110, 10.2.3)."""
    if not isinstance(failure, openai.APIStatusError):
        return None
    headers: httpx2.Headers = failure.response.headers
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * factor)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time())
    except (KeyError, ValueError, TypeError):
        return None


ChunkStream = openai.AsyncStream[ChatCompletionChunk]

# Error codes for a prompt that is too long: of OpenAI and most others, and of llama.cpp.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
_CHARS_PER_TOKEN = 4


class OpenAIAgent:
    """Agent that streams the answers of a chat-completions server.

    It works with any server that implements OpenAI's API. The request is
    the history, whose last message is the current input. `reasoning_content` or
    `reasoning` becomes thoughts. The server's token count is added to the turn's usage. The stream is
    closed when the turn ends (contract 6).

    A request that fails before its first token is retried, after the server's `retry-after` if it sends
    one. A later failure is not retried: the turn fails, marked retryable, and keeps the text before it.

    With tools it is a loop: the model's calls run in parallel (`tool_loop.ToolRunner`), and their results
    go back to the model, until it answers. Text between the calls is streamed as well.

    Args:
        model: The model's name; the environment variable `OPENAI_MODEL` if None.
        base_url: URL of the API, with `/v1`; `OPENAI_BASE_URL` if None, else OpenAI's own.
        api_key: `OPENAI_API_KEY` if None. Optional with a `base_url`.
        instructions: The system prompt.
        history_tokens: The history's share of the model's context; older exchanges are left out.
            None sends all. In both cases a history that the server rejects as too long is shortened.
        tools: Tools for the model: functions, results of `tool()`, or MCP servers (`mcp_tools.mcp`).
        max_steps: Maximum number of model calls in a turn; the last one is without tools, so that the
            model answers with the results that it has.
        final_tool: For models that are driven by forced tool calls: name of a tool whose call ends the
            turn. One of `tools`; otherwise a tool with a single string argument is created. The text of
            its `final_field` is streamed; the tool itself never runs.
        final_field: Argument of the final tool that holds the answer.
        max_retries: Maximum number of retries of a request that fails before its first token.
        stall_s: Seconds of silence in the middle of a stream after which it has failed.
        options: Further fields of each request, such as `temperature` or `max_tokens`.

    Raises:
        ValueError: The model or the key is missing.
        NotATool: A tool cannot be described to a model.
    """

    span_provider: str = "openai"
    """Flavor of the API in spans, whatever server implements it."""

    def __init__(
        self,
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        instructions: str | None = None,
        history_tokens: int | None = None,
        tools: Iterable[Tool | Callable[..., Any] | ToolSource] = (),
        max_steps: int = 12,
        final_tool: str | None = None,
        final_field: str = "answer",
        max_retries: int = 2,
        stall_s: float = 25.0,
        **options: Any,
    ) -> None:
        self.model: str = model or os.environ.get("OPENAI_MODEL", "")
        if not self.model:
            raise ValueError("expected a model: pass model= or set OPENAI_MODEL")
        self.base_url: str | None = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or ("none" if self.base_url else "")
        if not self._api_key:
            raise ValueError("expected a key: pass api_key= or set OPENAI_API_KEY")
        self.instructions = instructions
        self.history_tokens = history_tokens
        self.max_steps = max_steps
        self.max_retries = max_retries
        self.stall_s = stall_s
        self._tools = Toolset(tools)
        self._final = (final_tool, final_field) if final_tool is not None else None
        if final_tool is not None and final_tool not in self._tools:
            self._tools.add(_final_tool(final_tool, final_field))
        self._options = options
        self._client: openai.AsyncOpenAI | None = None
        self._http_client: Any = None
        self._asks_usage = True

    async def startup(self) -> None:
        """Connect the sources of tools, such as MCP servers."""
        await self._tools.startup()

    async def shutdown(self) -> None:
        """Disconnect the sources of tools."""
        await self._tools.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer the turn.

        Raises:
            TurnFailed: The server refused or failed, or its stream was cut or stalled: `upstream`.
        """
        with failing_upstream():
            async with aclosing(self._answer(turn)) as outputs:
                async for output in outputs:
                    yield output

    async def _answer(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Call the model and run its tool calls, until it answers."""
        await self._tools.refresh()
        dialogue: list[Message] = []
        for index in range(self.max_steps):
            last = index == self.max_steps - 1
            step = Completion(turn, self._final)
            async with aclosing(self._step(turn, step, dialogue, self._tool_choice(last))) as outputs:
                async for output in outputs:
                    yield output
            if self._tools:
                for announcement in step.unannounced():
                    yield announcement
                yield StepEnded(index=index, kind="model")
            if last or step.answered or not step.calls:
                for call in step.calls:  # beside the answer, or in spite of the last step
                    yield ToolResult(call_id=CallId(call.call_id), status="cancelled")
                return
            running = ToolRunner(turn, self._tools, step.calls)
            async with aclosing(running.outputs()) as outputs:
                async for output in outputs:
                    yield output
            dialogue.append(calls_message(step.text, step.calls))
            dialogue += [
                result_message(result.call_id, result.status, result.output, result.error)
                for result in running.results
            ]

    async def _step(
        self, turn: Turn, step: Completion, dialogue: list[Message], choice: Any
    ) -> AsyncGenerator[Output, None]:
        """Call the model once, with retries before its first token."""
        retries = Retries(self.max_retries)
        while True:
            call = ModelCall(turn, self.model, self.base_url, self._options, self.span_provider)
            try:
                with call.span.current():
                    stream = await self._request(turn, dialogue, choice)
                async with stream, aclosing(self._chunks(stream)) as chunks:
                    begun = False
                    async for chunk in chunks:
                        if not begun:
                            begun = True
                            call.began(chunk)
                        for output in step.read(chunk):
                            yield output
                if step.finish_reason is None:
                    # Without framing, a cut connection looks like the end of the answer.
                    raise StreamCut("the stream ended before the answer did")
                return
            except FAILURES as failure:
                call.span.fail(type(failure).__name__)
                wait_s = None if step.begun else retries.wait_s(failure)
                if wait_s is None:
                    raise
            finally:
                call.end(step)
            step.restart()
            async with aclosing(wait_with_status(wait_s)) as statuses:
                async for status in statuses:
                    yield status

    async def _chunks(self, stream: ChunkStream) -> AsyncGenerator[ChatCompletionChunk, None]:
        """Yield the chunks of a stream; raise when it stalls in the middle."""
        if "event-stream" not in stream.response.headers.get("content-type", "event-stream"):
            raise openai.OpenAIError("expected a stream of events")
        chunks = aiter(stream)
        limit_s: float | None = None
        while True:
            # Not around the `yield`: that time is the client's, and the cancel would reach the consumer.
            try:
                async with asyncio.timeout(limit_s):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise StreamCut(f"the stream was silent for {limit_s} s") from None
            if chunk is None:
                return
            yield chunk
            limit_s = self.stall_s

    def _tool_choice(self, last: bool) -> Any:
        """Return the request's `tool_choice`: any tool, none, or the final tool."""
        if self._final is None:
            return "none" if last and self._tools else None
        final = {"type": "function", "function": {"name": self._final[0]}}
        return final if last else "required"

    async def _request(self, turn: Turn, dialogue: list[Message], choice: Any) -> ChunkStream:
        """Open a stream; drop options and history that the server rejects."""
        budget = self.history_tokens
        messages = self._messages(turn, budget)
        while True:
            try:
                return await self._create(turn, messages + dialogue, choice)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if self._asks_usage and "stream_options" in str(error.body):
                    self._asks_usage = False
                    continue
                if error.code not in _TOO_LONG and error.type not in _TOO_LONG:
                    raise
                # Our token count is an estimate; the model's is exact.
                asked, budget = len(messages), budget or _tokens(messages)
                while budget and len(messages) == asked:
                    budget //= 2
                    messages = self._messages(turn, budget)
                if len(messages) == asked:
                    raise

    async def _create(self, turn: Turn, messages: list[Message], choice: Any) -> ChunkStream:
        request: dict[str, Any] = {"model": self.model, "messages": messages, **self._options}
        if self._tools:
            request["tools"] = [tool.specification() for tool in self._tools.values()]
        if choice is not None:
            request["tool_choice"] = choice
        if self._asks_usage:
            request.setdefault("stream_options", {"include_usage": True})
        stream: ChunkStream = await self._client_of(turn).chat.completions.create(stream=True, **request)
        return stream

    def _messages(self, turn: Turn, budget: int | None) -> list[Message]:
        history = turn.history.messages(max_tokens=budget)
        if self.instructions is None:
            return history
        return [{"role": "system", "content": self.instructions}, *history]

    def _client_of(self, turn: Turn) -> openai.AsyncOpenAI:
        http_client = turn.http_client()
        if self._client is None or http_client is not self._http_client:
            self._http_client = http_client
            self._client = openai.AsyncOpenAI(
                base_url=self.base_url, api_key=self._api_key, http_client=http_client, max_retries=0
            )
        return self._client


def _final_tool(name: str, field: str) -> Tool:
    async def answer(**arguments: str) -> None:
        """Give the user your answer."""

    answer.__annotations__ = {field: str}
    answer.__signature__ = Signature([Parameter(field, Parameter.KEYWORD_ONLY)])  # type: ignore[attr-defined]
    return Tool(answer, name=name)


def _tokens(messages: list[Message]) -> int:
    return sum(len(str(message.get("content"))) for message in messages) // _CHARS_PER_TOKEN
