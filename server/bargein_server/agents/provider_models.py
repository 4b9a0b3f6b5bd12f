"""Agent for several providers: `anthropic:claude-…`, `google:gemini-…`.

The APIs of Anthropic and Google are spoken by the models of Pydantic AI
(server/docs/decisions/model-library.md). Their streams and errors are translated to those of the
chat-completions API, so everything above a model call is the code of `OpenAIAgent`: tools, consent,
retries, thoughts, usage and interrupts.

A model that reasons wants its own messages back with the results of tools, unchanged and with their
signatures. A history of chat completions has no place for them, so they are kept until the turn ends.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bargein_server.agent import IMAGES, Message, Output, Turn

from .chat_completions import OpenAIAgent
from .model_fields import Origin
from .tools import Tool

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import Model

KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
}
"""Providers by name, and the environment variables that hold their keys."""

_URLS = {
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "google": ("GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com"),
}
_SPAN_NAMES = {"google": "gcp.gemini"}


class ModelAgent(OpenAIAgent):
    """Agent for a model of OpenAI, Anthropic, Google or another provider.

    A model of OpenAI, or of a server with its API, is called exactly as by `OpenAIAgent`. The streams of
    all models are closed when the turn ends (contract 6).

    Args:
        model: `provider:name`, such as `anthropic:claude-sonnet-5`; the provider `openai` may be left out.
            A `Model` of Pydantic AI is used as it is, with its own HTTP client.
        base_url: URL of the API; that of the environment or the provider's own if None.
        api_key: That of the environment if None, see `KEYS`.
        settings: The other arguments of `OpenAIAgent`. Further fields of each request have the names of
            Pydantic AI's model settings for other providers than `openai`, such as `max_tokens`,
            `thinking` or `anthropic_thinking`.

    Raises:
        ImportError: The provider's package is missing; the message names the extra.
        ValueError: The model or the key is missing.
        NotATool: A tool cannot be described to a model.
    """

    def __init__(
        self,
        *,
        model: str | Model | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        **settings: Any,
    ) -> None:
        self._own_messages: dict[Turn, list[ModelResponse]] = {}
        self._model: Model | None = None
        self._model_http_client: Any = None
        self._provider = "openai"
        if model is None or isinstance(model, str):
            provider, name = _split(model or "")
            if provider == "openai":
                _check_no_provider(name, base_url or os.environ.get("OPENAI_BASE_URL"))
                super().__init__(model=name or None, base_url=base_url, api_key=api_key, **settings)
                return
            key = api_key or next(filter(None, map(os.environ.get, KEYS[provider])), "")
            if not key:
                raise ValueError(f"expected a key: pass api_key= or set {KEYS[provider][0]}")
            variable, own_url = _URLS[provider]
            url = base_url or os.environ.get(variable) or own_url
            settings.setdefault("takes_attachments", IMAGES)
            super().__init__(model=name, base_url=url, api_key=key, **settings)
            self._origin = Origin(KEYS[provider][0], variable, ": without a path")
        else:
            provider, self._model = model.system, model
            super().__init__(model=model.model_name, base_url=model.base_url, api_key="none", **settings)
            self._origin = Origin("the model's key", "the model's base_url", "")
        self._provider = provider
        self.span_provider: str = _SPAN_NAMES.get(provider, provider)
        _import_provider(provider if self._model is None else "")

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer the turn.

        Raises:
            TurnFailed: The provider refused or failed, or its stream was cut or stalled: `upstream`.
        """
        try:
            async with aclosing(super().__call__(turn)) as outputs:
                async for output in outputs:
                    yield output
        finally:
            self._own_messages.pop(turn, None)

    async def _create(
        self, turn: Turn, tools: Mapping[str, Tool], messages: list[Message], choice: Any
    ) -> Any:
        if self._provider == "openai":
            return await super()._create(turn, tools, messages, choice)
        from .provider_messages import request_of
        from .provider_streams import ProviderStream

        kept = self._own_messages.setdefault(turn, [])
        described = [tool.specification()["function"] for tool in tools.values()]
        request = request_of(messages, kept, described, self._options, choice)
        return await ProviderStream.open(self._model_of(turn), request, kept)

    def _chunks(
        self, stream: Any, first_byte_s: float, silence_s: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        if self._provider == "openai":
            return super()._chunks(stream, first_byte_s, silence_s)
        chunks: AsyncGenerator[dict[str, Any], None] = stream.chunks()
        return chunks

    def _model_of(self, turn: Turn) -> Model:
        if self._model is None or self._model_http_client is not None:
            http_client = turn.http_client()
            if self._model is None or http_client is not self._model_http_client:
                from .provider_streams import connect

                self._model_http_client = http_client
                self._model = connect(
                    self._provider, self.model, str(self.base_url), self._api_key, http_client
                )
        return self._model


def _split(model: str) -> tuple[str, str]:
    """Return provider and name of a model."""
    provider, colon, name = model.partition(":")
    # Names at servers with OpenAI's API contain colons as well, such as llama3:8b.
    if not colon or provider not in KEYS:
        return "openai", model
    if not name:
        raise ValueError(f"expected a model such as {provider}:NAME, got {model!r}")
    return provider, name


def _check_no_provider(name: str, base_url: str | None) -> None:
    """Refuse the prefix of an unknown provider, which OpenAI would not find."""
    prefix, colon, _ = name.partition(":")
    if colon and prefix != "ft" and not base_url:  # OpenAI's own fine-tuned models begin with ft:
        raise ValueError(
            f"unknown provider {prefix!r}: expected {', '.join(KEYS)}; "
            "for another server with OpenAI's API set OPENAI_BASE_URL"
        )


def _import_provider(provider: str) -> None:
    """Import a provider's packages now: seconds, which no turn should take."""
    try:
        import_module(".provider_streams", __package__)
        if provider:
            import_module(f"pydantic_ai.models.{provider}")
    except ImportError as error:
        missing = error.name or {"google": "google-genai"}.get(provider, provider)
        extra = provider or "anthropic"
        raise ImportError(
            f'ModelAgent needs {missing} for this model: pip install "bargein[{extra}]"', name=missing
        ) from None
