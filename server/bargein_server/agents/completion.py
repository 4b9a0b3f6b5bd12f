"""Result of one model call, built up from its stream, and its span.

Spans follow OpenTelemetry's conventions for generative AI,
https://github.com/open-telemetry/semantic-conventions-genai. A span carries amounts, durations and outcomes,
never the content of a question or an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from bargein_protocol import CallId, Thought, ToolCall, ToolCallDelta
from bargein_protocol.types import MAX_NAME_CHARS
from bargein_server.agent import Attribute, NamedCall, Output, Span, Turn

from .string_field import StringField


class _Announced:
    """Tool call whose name has arrived; its arguments follow."""

    def __init__(self, call_id: CallId, given_id: str, name: str, answer: StringField | None) -> None:
        self.call_id = call_id
        self.given_id = given_id
        self.name = name
        self.arguments: list[str] = []
        self.answer = answer


class Completion:
    """Result of one model call so far: text, tool calls, usage.

    Args:
        turn: The turn.
        final: The tool whose call is the answer, and the field of it that becomes text.

    Attributes:
        text: Text beside the tool calls.
        finish_reason: The server's reason for the end; None while it streams, and after a cut.
        begun: Whether the client has been sent a part of it.
        answered: Whether the final tool has produced text.
    """

    def __init__(self, turn: Turn, final: tuple[str, str] | None = None) -> None:
        self.text: str = ""
        self.finish_reason: str | None = None
        self.begun: bool = False
        self.answered: bool = False
        self._turn = turn
        self._final = final
        self._usage = (0, 0)
        self._calls: list[_Announced] = []
        self._newest: dict[int, _Announced] = {}

    @property
    def usage(self) -> tuple[int, int]:
        """Input and output tokens, as counted by the server."""
        return self._usage

    @property
    def calls(self) -> list[NamedCall]:
        """Tool calls in the order of their begin, without the final answer's."""
        return [
            NamedCall(call.call_id, call.name, "".join(call.arguments))
            for call in self._calls
            if call.answer is None or not self.answered
        ]

    def restart(self) -> None:
        """Discard a failed attempt that the client has seen nothing of."""
        self._calls.clear()
        self._newest.clear()
        self._usage = (0, 0)
        self.finish_reason = None

    def read(self, chunk: ChatCompletionChunk) -> Iterator[Output]:
        """Yield the outputs of a chunk."""
        self._add_usage(chunk.usage)
        # The usage chunk has no choices. One choice is requested, so there is no second.
        for choice in chunk.choices[:1]:
            delta = choice.delta
            thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
            if thought:
                self.begun = True
                yield Thought(text=thought)
            if text := delta.content or delta.refusal:
                self.begun = True
                self.text += text
                yield text
            for call in delta.tool_calls or ():
                yield from self._read_call(call)
            self.finish_reason = choice.finish_reason or self.finish_reason

    def _read_call(self, delta: ChoiceDeltaToolCall) -> Iterator[Output]:
        function = delta.function
        name, piece = (function.name, function.arguments) if function is not None else (None, None)
        # Servers number the calls, but some number all of them 0, and some send no number.
        index = getattr(delta, "index", None) or 0
        call = self._newest.get(index)
        if name and (call is None or (delta.id and delta.id != call.given_id)):
            call = self._newest[index] = self._announce(delta.id or "", name[:MAX_NAME_CHARS])
            if call.answer is None:
                yield ToolCall(call_id=call.call_id, name=call.name)
        if call is None or not piece:
            return
        call.arguments.append(piece)
        if call.answer is None:
            yield ToolCallDelta(call_id=call.call_id, arguments=piece)
            return
        text = call.answer.feed(piece)
        self.answered = self.answered or call.answer.complete or bool(text)
        if text:
            self.begun = True
            self.text += text
            yield text

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

    def _add_usage(self, usage: CompletionUsage | None) -> None:
        """Add the server's count, which may come once or with every chunk."""
        if usage is None:
            return
        before, self._usage = self._usage, (usage.prompt_tokens or 0, usage.completion_tokens or 0)
        self._turn.add_usage(self._usage[0] - before[0], self._usage[1] - before[1])


_REQUEST = ("frequency_penalty", "max_tokens", "presence_penalty", "seed", "temperature", "top_p")
_PORTS = {"http": 80, "https": 443}


class ModelCall:
    """Span of one request to a model and its stream.

    Args:
        turn: The turn.
        model: The model's name.
        base_url: URL of the API; None for OpenAI's own.
        options: Options of the request.
    """

    def __init__(self, turn: Turn, model: str, base_url: str | None, options: Mapping[str, Any]) -> None:
        attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": "chat",
            # The flavour of the API, whatever server implements it.
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
            **_server(base_url or "https://api.openai.com/v1"),
        }
        for name in _REQUEST:
            if isinstance(value := options.get(name), (int, float)):
                attributes[f"gen_ai.request.{name}"] = value
        if turn.source:
            attributes["gen_ai.agent.name"] = turn.source
        self.span: Span = turn.span(f"chat {model}", attributes, "client")
        self._asked_at = perf_counter()

    def began(self, chunk: ChatCompletionChunk) -> None:
        """Record the first chunk."""
        self.span.set(
            {
                "gen_ai.response.id": chunk.id or "",
                "gen_ai.response.model": chunk.model or "",
                "gen_ai.response.time_to_first_chunk": perf_counter() - self._asked_at,
            }
        )

    def end(self, step: Completion) -> None:
        """Record the result and end the span; a cut call has no finish reason."""
        if step.finish_reason is not None:
            self.span.set({"gen_ai.response.finish_reasons": [step.finish_reason]})
        input_tokens, output_tokens = step.usage
        if input_tokens or output_tokens:
            self.span.set(
                {"gen_ai.usage.input_tokens": input_tokens, "gen_ai.usage.output_tokens": output_tokens}
            )
        self.span.end()


def _server(url: str) -> dict[str, Attribute]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return {}
    return {"server.address": parts.hostname, "server.port": port} if parts.hostname and port else {}
