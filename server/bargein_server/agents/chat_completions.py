"""Agent for any model server with OpenAI's chat-completions API."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from inspect import Parameter, Signature
from typing import Any, Literal

try:
    import httpx2
    import openai
    from openai.types.chat import ChatCompletionChunk
except ImportError as error:
    raise ImportError(
        f'OpenAIAgent needs {error.name}: pip install "bargein[openai]"', name=error.name
    ) from None

from bargein_protocol import CallId, StepEnded, ToolResult
from bargein_server.agent import IMAGES, Message, Output, Turn, calls_message, result_message

from .client_tools import client_instructions, client_tools
from .completion import Completion
from .event_stream import END_MARK, FIRST_BYTE_S, SILENCE_S, StreamCut, read_chunks
from .first_call import make_first_call
from .kept_messages import KeptMessages
from .model_call import ModelCall
from .model_failures import FAILURES, OPENAI, failing_upstream, is_too_long
from .model_fields import complaint
from .retries import Retries, ThinkingStatus, wait_with_status
from .shortening import Prompt
from .think_tags import tags_of
from .tool_loop import ToolRunner
from .tool_sources import Toolset, ToolSource
from .tools import Tool

log: logging.Logger = logging.getLogger("bargein.model")

ChunkStream = openai.AsyncStream[ChatCompletionChunk]

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-5-mini"
"""Model when none is named and the server is OpenAI's own."""


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
        model: The model's name; the environment variable `OPENAI_MODEL` if None. Without both it is
            `DEFAULT_MODEL` at OpenAI's own server.
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
        stall_s: Seconds without a byte in the middle of a stream after which it has failed; None for the
            server's setting `model_silence_s`. Comments that keep the stream alive count as bytes.
        think_tags: Whether `<think>…</think>` in the text is a thought, `"opened"` if the model's template
            ends the prompt with the first tag. None decides by the model's name; a tag with which the text
            begins counts for all models then.
        client_tools: Whether clients may bring tools, which run in the client (`client_tools`).
        client_instructions: Whether clients may bring instructions, which follow `instructions`.
        takes_attachments: Media types of the files that the model reads, such as `("image/png",)` or
            `("image/*", "application/pdf")`, True for any file, False for none. None stands for images at
            OpenAI's own server, and for no files elsewhere.
        options: Further fields of each request, such as `temperature` or `max_tokens`.

    Raises:
        ValueError: The model or the key is missing, or the URL or the key is malformed.
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
        stall_s: float | None = None,
        think_tags: bool | Literal["opened"] | None = None,
        client_tools: bool = False,
        client_instructions: bool = False,
        takes_attachments: Collection[str] | bool | None = None,
        **options: Any,
    ) -> None:
        self.base_url: str | None = _checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or None)
        self.model: str = model or os.environ.get("OPENAI_MODEL") or ("" if self.base_url else DEFAULT_MODEL)
        if not self.model:
            raise ValueError("expected a model: pass model= or set OPENAI_MODEL")
        key = (api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        self._api_key = key or ("none" if self.base_url else "")
        if not self._api_key:
            raise ValueError("expected a key: pass api_key= or set OPENAI_API_KEY")
        if not self._api_key.isascii() or not self._api_key.isprintable():
            raise ValueError("expected a key of printable ASCII characters: see OPENAI_API_KEY")
        self._origin = OPENAI
        self.takes_attachments: Collection[str] | bool = _taken(takes_attachments, self.base_url)
        self.instructions = instructions
        self.history_tokens = history_tokens
        self.max_steps = max_steps
        self.max_retries = max_retries
        self.stall_s = stall_s
        self._tools = Toolset(tools)
        self._final = (final_tool, final_field) if final_tool is not None else None
        if final_tool is not None and final_tool not in self._tools:
            self._tools.add(_final_tool(final_tool, final_field))
        self._from_client = (client_tools, client_instructions)
        self._options = options
        self._client: openai.AsyncOpenAI | None = None
        self._http_client: Any = None
        self._asks_usage = True
        self._kept = KeptMessages()
        self._think_tags = tags_of(think_tags, self.model)

    async def startup(self) -> None:
        """Connect the sources of tools, and import all that the first turn needs."""
        await make_first_call()
        await self._tools.startup()

    async def shutdown(self) -> None:
        """Disconnect the sources of tools."""
        await self._tools.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer the turn.

        Raises:
            TurnFailed: The server refused or failed, or its stream was cut or stalled: `upstream`.
        """
        prompt = Prompt(turn, self._instructions(turn), self.history_tokens, bool(self.takes_attachments))
        with failing_upstream(
            self.model, self.base_url or OPENAI_URL, self._api_key, prompt.messages, self._origin
        ):
            async with aclosing(self._answer(turn, prompt)) as outputs:
                async for output in outputs:
                    yield output

    async def _answer(self, turn: Turn, prompt: Prompt) -> AsyncGenerator[Output, None]:
        """Call the model and run its tool calls, until it answers."""
        await self._tools.refresh()
        prompt.tools = {**client_tools(turn), **self._tools} if self._from_client[0] else self._tools
        for index in range(self.max_steps):
            last = index == self.max_steps - 1
            step = Completion(turn, self._final, self._think_tags, prompt.tools)
            async with aclosing(self._step(turn, step, prompt, self._tool_choice(last, prompt))) as outputs:
                async for output in outputs:
                    yield output
            self._think_tags = step.learned_tags or self._think_tags
            if step.cut_by is not None:
                turn.cut_short(step.cut_by)
                log.warning("turn %s: model %s ended early: %s", turn.id, self.model, step.cut_by)
            if prompt.tools:
                for announcement in step.unannounced():
                    yield announcement
                yield StepEnded(index=index, kind="model")
            if last or step.answered or not step.calls:
                for call in step.calls:  # beside the answer, or in spite of the last step
                    yield ToolResult(call_id=CallId(call.call_id), status="cancelled")
                return
            running = ToolRunner(turn, prompt.tools, step.calls)
            async with aclosing(running.outputs()) as outputs:
                async for output in outputs:
                    yield output
            prompt.said.append(calls_message(step.text, step.calls))
            prompt.said += [
                result_message(result.call_id, result.status, result.output, result.error)
                for result in running.results
            ]

    async def _step(
        self, turn: Turn, step: Completion, prompt: Prompt, choice: Any
    ) -> AsyncGenerator[Output, None]:
        """Call the model once, with retries before its first token."""
        retries = Retries(self.max_retries)
        while True:
            call = ModelCall(turn, self.model, self.base_url, self._options, self.span_provider)
            try:
                with ThinkingStatus(turn) as thinking:
                    async with aclosing(self._attempt(turn, step, prompt, choice, call)) as outputs:
                        async for output in outputs:
                            thinking.stop()
                            yield output
                return
            except FAILURES as failure:
                call.span.fail(type(failure).__name__)
                wait_s = None if step.begun else retries.wait_s(failure)
                if wait_s is None:
                    raise
            finally:
                call.end(step)
                self._kept.keep(turn, [made.call_id for made in step.calls], step.fields)
            step.restart()
            async with aclosing(wait_with_status(wait_s)) as statuses:
                async for status in statuses:
                    yield status

    async def _attempt(
        self, turn: Turn, step: Completion, prompt: Prompt, choice: Any, call: ModelCall
    ) -> AsyncGenerator[Output, None]:
        """Call the model once and yield the outputs of its answer."""
        with call.span.current():
            stream = await self._request(turn, prompt, choice)
        client: Any = turn.http_client()
        first_byte_s = getattr(client, "first_byte_s", FIRST_BYTE_S)
        silence_s = getattr(client, "silence_s", SILENCE_S) if self.stall_s is None else self.stall_s
        chunks = self._chunks(stream, first_byte_s, silence_s)
        async with stream, aclosing(chunks):
            begun = False
            async for chunk in chunks:
                if chunk is END_MARK:
                    step.end()
                if not begun:
                    begun = True
                    call.began(chunk)
                for output in step.read(chunk):
                    yield output
        for output in step.finish():
            yield output
        if step.finish_reason is None:
            # Without framing, a cut connection looks like the end of the answer.
            raise StreamCut("the stream ended before the answer did")
        if step.lacks_calls:
            raise StreamCut("the answer ended with tool calls, but there were none")

    def _instructions(self, turn: Turn) -> str | None:
        given = client_instructions(turn) if self._from_client[1] else None
        return "\n\n".join(filter(None, (self.instructions, given))) or None

    def _tool_choice(self, last: bool, prompt: Prompt) -> Any:
        """Return the request's `tool_choice`: any tool, none, or the final tool."""
        if self._final is None:
            return "none" if last and prompt.tools else None
        final = {"type": "function", "function": {"name": self._final[0]}}
        return final if last else "required"

    def _chunks(
        self, stream: Any, first_byte_s: float, silence_s: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        return read_chunks(stream.response, first_byte_s, silence_s)

    async def _request(self, turn: Turn, prompt: Prompt, choice: Any) -> ChunkStream:
        """Open a stream; adapt to a server that refuses a part of the request."""
        while True:
            messages = self._kept.restored(turn, prompt.messages())
            try:
                return await self._create(turn, prompt.tools, messages, choice)
            except openai.APIStatusError as error:
                refused = isinstance(error, (openai.BadRequestError, openai.UnprocessableEntityError))
                if refused and self._asks_usage and "stream_options" in str(error.body):
                    self._asks_usage = False
                elif is_too_long(error):
                    # Our token count is an estimate; the model's is exact.
                    if not prompt.shorten():
                        raise
                elif not (refused and self._kept.adapt(complaint(error.body), messages)):
                    raise

    async def _create(
        self, turn: Turn, tools: Mapping[str, Tool], messages: list[Message], choice: Any
    ) -> ChunkStream:
        request: dict[str, Any] = {"model": self.model, "messages": messages, **self._options}
        if tools:
            request["tools"] = [tool.specification() for tool in tools.values()]
        if choice is not None:
            request["tool_choice"] = choice
        if self._asks_usage:
            request.setdefault("stream_options", {"include_usage": True})
        stream: ChunkStream = await self._client_of(turn).chat.completions.create(stream=True, **request)
        return stream

    def _client_of(self, turn: Turn) -> openai.AsyncOpenAI:
        http_client = turn.http_client()
        if self._client is None or http_client is not self._http_client:
            self._http_client = http_client
            self._client = openai.AsyncOpenAI(
                base_url=self.base_url,
                api_key=self._api_key,
                http_client=http_client,
                timeout=http_client.timeout,  # type: ignore[arg-type, unused-ignore]
                max_retries=0,
            )
        return self._client


def _taken(given: Collection[str] | bool | None, base_url: str | None) -> Collection[str] | bool:
    if given is not None:
        return given
    return IMAGES if base_url is None else ()


def _checked_url(base_url: str | None) -> str | None:
    if base_url is not None:
        try:
            url = httpx2.URL(base_url)
        except httpx2.InvalidURL:
            url = None
        if url is None or url.scheme not in ("http", "https") or not url.host:
            raise ValueError("expected base_url, or OPENAI_BASE_URL, of the form https://host/v1")
    return base_url


def _final_tool(name: str, field: str) -> Tool:
    async def answer(**arguments: str) -> None:
        """Give the user your answer."""

    answer.__annotations__ = {field: str}
    answer.__signature__ = Signature([Parameter(field, Parameter.KEYWORD_ONLY)])  # type: ignore[attr-defined]
    return Tool(answer, name=name)
