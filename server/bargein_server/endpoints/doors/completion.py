"""Chat completions of a turn: as chunks of a stream, and whole."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterator
from typing import Any

from msgspec import json

from bargein_protocol import (
    TextDelta,
    Thought,
    ToolConfirm,
    ToolDecision,
    ToolRunning,
    TurnEnded,
    Usage,
)

from ...hosting.host import SessionHost
from .conversation import answer_calls
from .translation import TurnTranslator, failure_text

_encode = json.Encoder().encode

DONE = b"data: [DONE]\n\n"


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Completion(TurnTranslator):
    """A turn as the chunks of a completion, or as a whole one.

    Args:
        host: The session.
        model: The model that the client asked for.
        include_usage: Whether a chunk with the usage comes last.
        answered: Calls whose results the client has sent.

    Attributes:
        failure: The error as which the turn ended; None without one.
        retryable: Whether the same request may succeed later.
    """

    def __init__(
        self, host: SessionHost, model: str, include_usage: bool = False, answered: Collection[str] = ()
    ) -> None:
        super().__init__(host.core.outside.waits_for, answered)
        self.failure: dict[str, Any] | None = None
        self.retryable = False
        self._host = host
        self._include_usage = include_usage
        self._head = {"id": f"chatcmpl-{secrets.token_hex(8)}", "created": int(time.time()), "model": model}
        self._began = False
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._finish = "stop"
        self._usage: Usage | None = None

    def whole(self) -> dict[str, Any]:
        """Return the whole completion."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self._text) or None,
            "refusal": None,
        }
        if self._thoughts:
            message["reasoning_content"] = "".join(self._thoughts)
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        body = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self._usage is not None:
            body["usage"] = _usage(self._usage)
        return body

    def text(self, event: TextDelta) -> Iterator[bytes]:
        """Translate a piece of the answer.

        Other voices than the agent's own are left out.
        """
        if not event.source:
            self._text.append(event.text)
            yield self._delta({"content": event.text})

    def thought(self, event: Thought) -> Iterator[bytes]:
        """Translate a piece of thinking, as DeepSeek's API has it."""
        if not event.source:
            self._thoughts.append(event.text)
            yield self._delta({"reasoning_content": event.text})

    def confirm(self, event: ToolConfirm, waits: bool) -> Iterator[bytes]:
        """Refuse a call that needs consent: there is no way to ask."""
        if waits:
            decision = ToolDecision(call_id=event.call_id, allow=False)
            self._host.loop.call_soon(answer_calls, self._host, [decision])
        yield from ()

    def running(self, event: ToolRunning, waits: bool) -> Iterator[bytes]:
        """Translate a call that the client runs; the next request has its result."""
        if waits:
            call = self.calls[event.call_id]
            function = {"name": call.name, "arguments": _encode(event.arguments).decode()}
            self._calls.append({"id": event.call_id, "type": "function", "function": function})
            yield self._delta({"tool_calls": [{"index": 0, **self._calls[-1]}]})
            self.over = True
            self._finish = "tool_calls"
            yield from self._last(None)

    def end(self, event: TurnEnded) -> Iterator[bytes]:
        """Translate the end of the turn."""
        if event.status == "failed":
            self.retryable = event.retryable
            yield from self.failed(event.reason, failure_text(event.reason))
            return
        if event.reason in ("length", "content_filter"):
            self._finish = event.reason
        self._usage = event.usage
        yield from self._last(event.usage)

    def failed(self, code: str, message: str) -> Iterator[bytes]:
        """Translate a failure, for which clients raise in a stream, too."""
        self.failure = error_body(message, "server_error", code)
        yield _block(self.failure)
        yield DONE

    def _last(self, usage: Usage | None) -> Iterator[bytes]:
        yield self._delta({}, self._finish)
        if self._include_usage and usage is not None:
            yield _block(
                {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(usage)}
            )
        yield DONE

    def _delta(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        if not self._began:
            self._began = True
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _block({**self._head, "object": "chat.completion.chunk", "choices": [choice]})


def _block(body: object) -> bytes:
    return b"data: %s\n\n" % _encode(body)


def _usage(usage: Usage) -> dict[str, int]:
    total = usage.input_tokens + usage.output_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": total,
    }
