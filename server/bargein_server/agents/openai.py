"""An agent that asks any server with the API of OpenAI's chat completions."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk

from bargein_protocol import Thought
from bargein_server.agent import Turn, TurnFailed

Message = dict[str, Any]
ChunkStream = openai.AsyncStream[ChatCompletionChunk]

_RETRYABLE = frozenset({408, 409, 429})
# What servers call a prompt that is too long: OpenAI and most others; llama.cpp.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
_CHARS_PER_TOKEN = 4


class OpenAIAgent:
    """Streams the model's answer to the history, whose last message is the current input.

    Text becomes text, `reasoning_content` or `reasoning` becomes thought. The tokens that the server
    counts are added to the turn's usage. The stream ends with the turn (contract 6).

    A request that fails before its first token is tried again by the SDK: twice, after the time in
    `retry-after` if the server names one. After the first token nothing is tried again: the turn
    fails, retryable, and keeps what came.

    Args:
        model: The model's name; the environment variable `OPENAI_MODEL` if None.
        base_url: Where the API is, `/v1` included; `OPENAI_BASE_URL` if None, else OpenAI's own.
        api_key: `OPENAI_API_KEY` if None. May be missing when there is a `base_url`.
        instructions: The system prompt.
        history_tokens: The history's part of the model's context; older exchanges are left out.
            None sends all. Either way, a history that the model finds too long is made shorter.
        options: Go into each request as they are, such as `temperature` or `max_tokens`.

    Raises:
        ValueError: The model or the key is missing.
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        instructions: str | None = None,
        history_tokens: int | None = None,
        **options: Any,
    ) -> None:
        self.model = model or os.environ.get("OPENAI_MODEL", "")
        if not self.model:
            raise ValueError("expected a model: pass model= or set OPENAI_MODEL")
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or ("none" if self.base_url else "")
        if not self._api_key:
            raise ValueError("expected a key: pass api_key= or set OPENAI_API_KEY")
        self.instructions = instructions
        self.history_tokens = history_tokens
        self._options = options
        self._client: openai.AsyncOpenAI | None = None
        self._http_client: Any = None
        self._asks_usage = True

    async def __call__(self, turn: Turn) -> AsyncGenerator[str | Thought, None]:
        """Answer the turn.

        Raises:
            TurnFailed: The server refused or failed, or its stream was cut: `upstream`.
        """
        with _failures():
            async with aclosing(self._step(turn)) as outputs:
                async for output in outputs:
                    yield output

    async def _step(self, turn: Turn) -> AsyncGenerator[str | Thought, None]:
        """Ask the model once and yield what it says."""
        usage = _UsageReport(turn)
        finish_reason: str | None = None
        async with await self._ask(turn) as stream:
            async for chunk in stream:
                usage.add(chunk.usage)
                # The chunk that counts tokens has no choices; we ask for one, so there is no second.
                for choice in chunk.choices[:1]:
                    delta = choice.delta
                    thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
                    if thought:
                        yield turn.thought(thought)
                    if text := delta.content or delta.refusal:
                        yield text
                    finish_reason = choice.finish_reason or finish_reason
        if finish_reason is None:
            # A connection that ends without framing looks like the end of the answer.
            raise TurnFailed("upstream", retryable=True)

    async def _ask(self, turn: Turn) -> ChunkStream:
        """Open a stream; leaves out what the server turns out not to bear."""
        budget = self.history_tokens
        messages = self._messages(turn, budget)
        while True:
            try:
                return await self._create(turn, messages)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if self._asks_usage and "stream_options" in str(error.body):
                    self._asks_usage = False
                    continue
                if error.code not in _TOO_LONG and error.type not in _TOO_LONG:
                    raise
                # Our count of tokens is an estimate, the model's is not.
                asked, budget = len(messages), budget or _tokens(messages)
                while budget and len(messages) == asked:
                    budget //= 2
                    messages = self._messages(turn, budget)
                if len(messages) == asked:
                    raise

    async def _create(self, turn: Turn, messages: list[Message]) -> ChunkStream:
        request: dict[str, Any] = {"model": self.model, "messages": messages, **self._options}
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
                base_url=self.base_url, api_key=self._api_key, http_client=http_client
            )
        return self._client


class _UsageReport:
    """Adds to the turn what the server counted, whether it counts once or with every chunk."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._input_tokens = 0
        self._output_tokens = 0

    def add(self, usage: CompletionUsage | None) -> None:
        if usage is None:
            return
        input_tokens = (usage.prompt_tokens or 0) - self._input_tokens
        output_tokens = (usage.completion_tokens or 0) - self._output_tokens
        self._input_tokens += input_tokens
        self._output_tokens += output_tokens
        self._turn.add_usage(input_tokens, output_tokens)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what the SDK raises into the turn's failure, whose cause no peer sees."""
    try:
        yield
    except openai.APIStatusError as error:
        retryable = error.status_code in _RETRYABLE or error.status_code >= 500
        raise TurnFailed("upstream", retryable=retryable) from error
    except (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError) as error:
        # The rest are lost connections, time-outs, and events that are an error or no JSON.
        raise TurnFailed("upstream", retryable=True) from error


def _tokens(messages: list[Message]) -> int:
    return sum(len(str(message.get("content"))) for message in messages) // _CHARS_PER_TOKEN
