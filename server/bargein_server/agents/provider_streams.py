"""Streams and errors of Pydantic AI's models in chat-completions form."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import replace
from json import dumps
from typing import Any, NoReturn, Self

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    UserError,
)
from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models import Model, StreamedResponse

from .event_stream import StreamCut
from .provider_messages import ProviderRequest


def connect(provider: str, name: str, url: str, key: str, http_client: httpx2.AsyncClient) -> Model:
    """Return a model of Anthropic or Google.

    Retries are the agent's alone, because only the agent knows whether the client was sent anything.
    """
    if provider == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        client = AsyncAnthropic(api_key=key, base_url=url, http_client=http_client, max_retries=0)
        return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
    from google.genai.types import HttpRetryOptions
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    once = HttpRetryOptions(attempts=1)
    return GoogleModel(
        name,
        provider=GoogleProvider(api_key=key, base_url=url, http_client=http_client, retry_options=once),
    )


MAX_PAUSES = 10
"""Maximum number of requests that continue one answer, which a provider pauses (`pause_turn`)."""


class ProviderStream:
    """Open stream of a model, as an iterator of chat-completions chunks.

    Attributes:
        response: Stands for the HTTP response, which Pydantic AI does not hand out.
    """

    def __init__(self, model: Model, request: ProviderRequest, kept: list[ModelResponse]) -> None:
        self.response: httpx2.Response = httpx2.Response(200, headers={"content-type": "text/event-stream"})
        self._model = model
        self._request = request
        self._kept = kept
        self._url = model.base_url or "https://model.invalid"
        self._opened: AbstractAsyncContextManager[StreamedResponse]
        self._stream: StreamedResponse
        self._usage = (0, 0)
        self._paused: ModelResponse | None = None
        self._paused_usage = (0, 0)

    @classmethod
    async def open(cls, model: Model, request: ProviderRequest, kept: list[ModelResponse]) -> Self:
        """Send a request and wait for the begin of its answer.

        Args:
            model: The model.
            request: The request.
            kept: Takes the whole answer if it calls tools.

        Raises:
            openai.OpenAIError: The request failed.
        """
        stream = cls(model, request, kept)
        with _openai_errors(stream._url):
            await stream._open()
        return stream

    async def _open(self) -> None:
        paused = [] if self._paused is None else [self._paused]
        opened = model_request_stream(
            self._model, [*self._request.messages, *paused],
            model_settings=self._request.settings, model_request_parameters=self._request.parameters,
        )  # fmt: skip
        self._stream = await opened.__aenter__()
        self._opened = opened

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        # The error has been translated below and is not the library's business.
        await self._opened.__aexit__(None, None, None)

    async def __aiter__(self) -> AsyncGenerator[ChatCompletionChunk, None]:
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                yield ChatCompletionChunk.construct(**chunk)

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks as decoded JSON.

        Raises:
            openai.OpenAIError: The provider reported an error, or the connection broke.
            StreamCut: The answer ended with an error.
        """
        with _openai_errors(self._url):
            pauses = 0
            while True:
                events: AsyncIterator[ModelResponseStreamEvent] = aiter(self._stream)
                async for event in events:
                    delta = _delta(event, 0 if self._paused is None else len(self._paused.parts))
                    usage = self._new_usage()
                    if delta is not None or usage is not None:
                        yield self._chunk(delta or {}, usage=usage)
                whole = self._whole()
                if whole.state != "suspended" or pauses == MAX_PAUSES:
                    break
                pauses += 1
                await self._continue(whole)
            reason = _finish_reason(whole)
        if reason is not None and any(isinstance(part, ToolCallPart) for part in whole.parts):
            self._kept.append(whole)
        yield self._chunk({}, reason, self._new_usage())

    def _whole(self) -> ModelResponse:
        """Return the answer so far, with the parts before pauses."""
        whole = self._stream.get()
        if self._paused is not None:
            whole = replace(whole, parts=[*self._paused.parts, *whole.parts])
        return whole

    async def _continue(self, paused: ModelResponse) -> None:
        """Send the request again, with the answer that its provider has paused."""
        await self._opened.__aexit__(None, None, None)
        self._paused, self._paused_usage = paused, self._usage
        await self._open()

    def _new_usage(self) -> dict[str, int] | None:
        """Return the usage if it has changed."""
        counted = self._stream.usage
        before = self._paused_usage
        usage = (before[0] + counted.input_tokens, before[1] + counted.output_tokens)
        if usage == self._usage:
            return None
        self._usage = usage
        return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}

    def _chunk(
        self, delta: dict[str, Any], reason: str | None = None, usage: dict[str, int] | None = None
    ) -> dict[str, Any]:
        return {
            "id": self._stream.provider_response_id or "",
            "created": 0,
            "model": self._stream.model_name,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            "usage": usage,
        }


def _delta(event: ModelResponseStreamEvent, offset: int) -> dict[str, Any] | None:
    """Return the delta of an event; None for events without answer parts.

    Args:
        event: The event.
        offset: Number of the answer's parts before those of this stream.
    """
    if isinstance(event, PartStartEvent):
        part: Any = event.part
        if isinstance(part, ToolCallPart):
            return _call_delta(offset + event.index, part.tool_call_id, part.tool_name, part.args)
        text = part.content if isinstance(part, (TextPart, ThinkingPart)) else None
        thinks = isinstance(part, ThinkingPart)
    elif isinstance(event, PartDeltaEvent):
        change: Any = event.delta
        if isinstance(change, ToolCallPartDelta):
            return _call_delta(
                offset + event.index, change.tool_call_id, change.tool_name_delta, change.args_delta
            )
        text = change.content_delta if isinstance(change, (TextPartDelta, ThinkingPartDelta)) else None
        thinks = isinstance(change, ThinkingPartDelta)
    else:
        return None
    if not text:
        return None
    return {"reasoning_content": text} if thinks else {"content": text}


def _call_delta(index: int, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) or arguments is None else dumps(arguments)
    function = {"name": name, "arguments": text}
    return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}


def _finish_reason(whole: ModelResponse) -> str | None:
    """Return the finish reason of an answer; None for one that was cut.

    Raises:
        StreamCut: The model ended with an error, or paused too often.
    """
    given = (whole.provider_details or {}).get("finish_reason")
    if whole.finish_reason == "error" or whole.state == "suspended":
        raise StreamCut(f"the model stopped: {given}")
    if whole.finish_reason is None:
        return None if given is None else "stop"
    return "tool_calls" if whole.finish_reason == "tool_call" else whole.finish_reason


_STATUS_ERRORS: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}

# An answer of an unexpected shape fails with errors of every kind in the library.
_MISREAD = (AgentRunError, UserError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


@contextmanager
def _openai_errors(url: str) -> Iterator[None]:
    """Raise errors of Pydantic AI as those of OpenAI's SDK."""
    try:
        yield
    except ModelHTTPError as error:
        raise _status_error(error, url) from error
    except (ModelAPIError, httpx2.TransportError) as error:
        _raise_connection_error(error, url)
    except openai.OpenAIError:
        raise
    except _MISREAD as error:
        raise openai.OpenAIError(f"{type(error).__name__}: {error}") from error


def _status_error(error: ModelHTTPError, url: str) -> openai.APIStatusError:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    sent: dict[str, str] = {}
    for name in ("retry-after", "retry-after-ms"):
        if name in headers:
            sent[name] = headers[name]
    if not sent and error.retry_after is not None:
        sent["retry-after"] = str(error.retry_after)
    if isinstance(error, ModelQuotaExceededError):
        sent["x-should-retry"] = "false"
    too_long = isinstance(error, ModelContextWindowExceededError)
    body = {
        "message": str(error.body if error.body is not None else error),
        "code": "context_length_exceeded" if too_long else error.provider_error_code,
        "type": error.provider_error_type,
    }
    status = error.status_code
    response = httpx2.Response(status, headers=sent, request=httpx2.Request("POST", url))
    kind = _STATUS_ERRORS.get(status, openai.InternalServerError if status >= 500 else openai.APIStatusError)
    return kind(body["message"] or "", response=response, body=body)


def _raise_connection_error(error: BaseException, url: str) -> NoReturn:
    """Raise a failed connection, with a full pool as its direct cause."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, httpx2.PoolTimeout):
        cause = cause.__cause__
    request = httpx2.Request("POST", url)
    raise openai.APIConnectionError(message=str(error), request=request) from (cause or error)
