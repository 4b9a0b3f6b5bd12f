"""Span of one request to a model.

Spans follow OpenTelemetry's conventions for generative AI,
https://github.com/open-telemetry/semantic-conventions-genai. A span carries amounts, durations and outcomes,
never the content of a question or an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from bargein_server.agent import Attribute, Span, Turn

from .completion import Completion
from .model_fields import string

_REQUEST = ("frequency_penalty", "max_tokens", "presence_penalty", "seed", "temperature", "top_p")
_PORTS = {"http": 80, "https": 443}


class ModelCall:
    """Span of one request to a model and its stream.

    Args:
        turn: The turn.
        model: The model's name.
        base_url: URL of the API; None for OpenAI's own.
        options: Options of the request.
        provider: Flavor of the API, whatever server implements it.
    """

    def __init__(
        self,
        turn: Turn,
        model: str,
        base_url: str | None,
        options: Mapping[str, Any],
        provider: str = "openai",
    ) -> None:
        attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
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

    def began(self, chunk: Mapping[str, Any]) -> None:
        """Record the first chunk."""
        self.span.set(
            {
                "gen_ai.response.id": string(chunk.get("id")),
                "gen_ai.response.model": string(chunk.get("model")),
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
