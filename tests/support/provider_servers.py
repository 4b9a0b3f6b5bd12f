"""The APIs of Anthropic and Google under the control of a test: their streams, their refusals.

An answer is written with the same words for both, on a `model_server.Call`. The servers refuse histories
for the reasons for which the real ones do, with status 400 and an assertion that has the reason.

    async with Anthropic() as provider:
        answer = await provider.answer()    # a valid request has arrived
        answer.open(); answer.say("Hello"); answer.finish()
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from itertools import count
from typing import Any, Self

from model_server import Call, End, Upstream

SIGNATURE = "c2lnbmVk"
"""Signature of every thought, in base64."""

_ids = count(1)


class Answer:
    """An answer of a provider, in writes that never wait."""

    def __init__(self, call: Call) -> None:
        self.call = call

    async def gone(self) -> End:
        """Wait for the end of the connection."""
        return await self.call.gone()

    def open(self) -> None:
        """Send the headers of the stream."""
        self.call.open()

    @abstractmethod
    def think(self, text: str) -> None:
        """Send a whole thought, with its signature."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Send a piece of text."""

    @abstractmethod
    def use(self, name: str, *pieces: str, done: bool = True) -> None:
        """Send a tool call, with its arguments in pieces of JSON; `done=False` leaves it open."""

    @abstractmethod
    def finish(self, reason: str | None = None) -> None:
        """End the answer properly; None for the reason that fits."""

    @abstractmethod
    def fail(self, status: int, **headers: str) -> None:
        """Refuse the request."""

    @abstractmethod
    def too_long(self) -> None:
        """Refuse a request as too long."""

    @abstractmethod
    def fail_in_stream(self) -> None:
        """Report an overload in the middle of the stream."""


class AnthropicAnswer(Answer):
    """Answer of the Messages API."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._index = -1
        self._kind = ""
        self._used = False

    def open(self) -> None:
        super().open()
        usage = {"input_tokens": 7, "output_tokens": 1}
        message: dict[str, Any] = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        self._event("message_start", message=message)
        self._event("ping")

    def _event(self, kind: str, **fields: Any) -> None:
        self.call.event({"type": kind, **fields}, kind)

    def _begin(self, kind: str, **block: Any) -> None:
        self._stop()
        self._index, self._kind = self._index + 1, kind
        self._event("content_block_start", index=self._index, content_block={"type": kind, **block})

    def _stop(self) -> None:
        if self._kind:
            self._event("content_block_stop", index=self._index)
        self._kind = ""

    def _delta(self, kind: str, **fields: Any) -> None:
        self._event("content_block_delta", index=self._index, delta={"type": kind, **fields})

    def think(self, text: str) -> None:
        self._begin("thinking", thinking="", signature="")
        self._delta("thinking_delta", thinking=text)
        self._delta("signature_delta", signature=SIGNATURE)

    def say(self, text: str) -> None:
        if self._kind != "text":
            self._begin("text", text="")
        self._delta("text_delta", text=text)

    def use(self, name: str, *pieces: str, done: bool = True) -> None:
        self._used = True
        self._begin("tool_use", id=f"toolu_{next(_ids)}", name=name, input={})
        for piece in pieces:
            self._delta("input_json_delta", partial_json=piece)
        if done:
            self._stop()

    def finish(self, reason: str | None = None) -> None:
        self._stop()
        delta = {"stop_reason": reason or ("tool_use" if self._used else "end_turn"), "stop_sequence": None}
        self._event("message_delta", delta=delta, usage={"output_tokens": 5})
        self._event("message_stop")
        self.call.end()

    def fail(self, status: int, **headers: str) -> None:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        error = {"type": kinds.get(status, "invalid_request_error"), "message": f"refused with {status}"}
        self.call.reply(status, {"type": "error", "error": error}, **headers)

    def too_long(self) -> None:
        error = {"type": "invalid_request_error", "message": "prompt is too long: 212 tokens > 200 maximum"}
        self.call.reply(400, {"type": "error", "error": error})

    def fail_in_stream(self) -> None:
        self._event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        self.call.end()


class GoogleAnswer(Answer):
    """Answer of `streamGenerateContent`."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._signed = False

    def _chunk(self, *parts: Any, reason: str | None = None) -> None:
        candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
        if reason is not None:
            candidate["finishReason"] = reason
        self.call.event(
            {
                "candidates": [candidate],
                "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12},
                "modelVersion": "gemini-test",
                "responseId": "r1",
            }
        )

    def think(self, text: str) -> None:
        self._chunk({"text": text, "thought": True})

    def say(self, text: str) -> None:
        self._chunk({"text": text})

    def use(self, name: str, *pieces: str, done: bool = True) -> None:
        if not done:
            return  # a call comes whole
        part: dict[str, Any] = {"functionCall": {"name": name, "args": json.loads("".join(pieces) or "{}")}}
        if not self._signed:  # only the first call of a step is signed
            part["thoughtSignature"] = SIGNATURE
            self._signed = True
        self._chunk(part)

    def finish(self, reason: str | None = None) -> None:
        self._chunk({"text": ""}, reason=reason or "STOP")
        self.call.end()

    def fail(self, status: int, **headers: str) -> None:
        names = {401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
        error = {"code": status, "message": f"refused with {status}", "status": names.get(status, "INVALID")}
        self.call.reply(status, {"error": error}, **headers)

    def too_long(self) -> None:
        message = "The input token count (212) exceeds the maximum number of tokens allowed (200)."
        error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
        self.call.reply(400, {"error": error})

    def fail_in_stream(self) -> None:
        self.call.event({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}})
        self.call.end()

    def block(self, reason: str) -> None:
        """Refuse the prompt: there is no candidate."""
        usage = {"promptTokenCount": 7, "totalTokenCount": 7}
        self.call.event({"promptFeedback": {"blockReason": reason}, "usageMetadata": usage})
        self.call.end()


class Provider:
    """A provider's server.

    Attributes:
        model: Name of a model for `ModelAgent`.
        overloaded: Status of an overloaded server.
        limited: Finish reason of an answer that is as long as it may be.
        filtered: Finish reason of an answer that was stopped for its content.
    """

    model: str
    overloaded: int
    limited: str
    filtered: str

    def __init__(self) -> None:
        self.upstream = Upstream()

    async def __aenter__(self) -> Self:
        await self.upstream.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.upstream.__aexit__()

    @property
    def url(self) -> str:
        """URL of the API."""
        return self.upstream.url.removesuffix("/v1")

    async def answer(self) -> Answer:
        """Return the answer to the next request, which must be valid."""
        call = await self.upstream.call()
        try:
            self.check(call.body)
        except AssertionError:
            self.made(call).fail(400)
            raise
        return self.made(call)

    @abstractmethod
    def made(self, call: Call) -> Answer:
        """Return an answer to a request."""

    @abstractmethod
    def check(self, body: Any) -> None:
        """Check a request."""

    @abstractmethod
    def results(self, body: Any) -> list[str]:
        """Return the results of tools in a request."""

    @abstractmethod
    def said(self, body: Any) -> list[tuple[str, str]]:
        """Return the texts of a request, with their roles."""


class Anthropic(Provider):
    """Server with the Messages API."""

    model = "anthropic:claude-sonnet-5"
    overloaded = 529
    limited, filtered = "max_tokens", "refusal"
    paused = False
    """Whether the last answer was paused, so that the next request continues it."""

    def made(self, call: Call) -> AnthropicAnswer:
        assert call.path.split("?")[0] == "/v1/messages"
        assert "k" in (call.headers.get("x-api-key"), call.headers.get("authorization", "")[7:])
        return AnthropicAnswer(call)

    def check(self, body: Any) -> None:
        assert body["max_tokens"] > 0
        waits: list[str] = []
        used = False
        for number, message in enumerate(body["messages"]):
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            assert blocks, "messages: content must not be empty"
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            assert sorted(results) == sorted(waits), "tool_use ids were found without tool_result blocks"
            for block in blocks:
                if block["type"] == "text":
                    assert block["text"].strip(), "text content blocks must be non-empty"
            if message["role"] == "user":
                waits = []
                continue
            assert number > 0, "the first message must have the role user"
            for block in blocks:
                if block["type"] == "thinking":
                    assert block["signature"] == SIGNATURE, "invalid signature in thinking block"
            calls = [block for block in blocks if block["type"] == "tool_use"]
            for block in calls:
                assert re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", block["name"])
                assert re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"])
                assert isinstance(block["input"], dict)
            used = used or bool(calls)
            waits = [block["id"] for block in calls]
        assert waits == [], "tool_use ids were found without tool_result blocks"
        assert body["messages"][-1]["role"] == ("assistant" if self.paused else "user")
        assert body.get("tools") or not used, "requests with tool_use blocks must define tools"
        if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
            self._check_thinking(body)

    def _check_thinking(self, body: Any) -> None:
        assert body["max_tokens"] > body["thinking"].get("budget_tokens", 0)
        assert body.get("tool_choice", {}).get("type") not in ("any", "tool"), "thinking and a forced tool"
        for message in reversed(body["messages"]):
            blocks = message["content"]
            if message["role"] == "user":
                if all(block["type"] != "tool_result" for block in blocks):
                    return  # the turn of the model begins here
            else:
                assert blocks[0]["type"] == "thinking", "expected thinking before tool_use"

    def results(self, body: Any) -> list[str]:
        found = []
        for message in body["messages"]:
            for block in message["content"] if not isinstance(message["content"], str) else ():
                if block["type"] == "tool_result":
                    content = block["content"]
                    found.append(content if isinstance(content, str) else content[0]["text"])
        return found

    def said(self, body: Any) -> list[tuple[str, str]]:
        return [
            (message["role"], block["text"])
            for message in body["messages"]
            for block in message["content"]
            if block["type"] == "text"
        ]


class Google(Provider):
    """Server with the Gemini API."""

    model = "google:gemini-3-flash-preview"
    overloaded = 503
    limited, filtered = "MAX_TOKENS", "SAFETY"

    def made(self, call: Call) -> GoogleAnswer:
        assert ":streamGenerateContent?alt=sse" in call.path
        assert call.headers["x-goog-api-key"] == "k"
        return GoogleAnswer(call)

    def check(self, body: Any) -> None:
        contents = body["contents"]
        waits = 0
        before = ""
        for content in contents:
            parts = content["parts"]
            assert content["role"] != before, "roles must alternate"
            before = content["role"]
            assert parts, "contents.parts must not be empty"
            responses = sum("functionResponse" in part for part in parts)
            assert responses == waits, "function response parts must equal function call parts"
            waits = 0
            if content["role"] == "model":
                calls = [part for part in parts if "functionCall" in part]
                waits = len(calls)
                for part in calls:
                    assert re.fullmatch(r"[a-zA-Z_][\w.:-]{0,127}", part["functionCall"]["name"])
        assert waits == 0, "function response parts must equal function call parts"
        assert contents[-1]["role"] == "user"
        for content in reversed(contents):
            if content["role"] == "user" and any("text" in part for part in content["parts"]):
                return
            calls = [part for part in content["parts"] if "functionCall" in part]
            if calls:
                assert calls[0].get("thoughtSignature") == SIGNATURE, "missing a thought_signature"

    def results(self, body: Any) -> list[str]:
        return [
            str(part["functionResponse"]["response"].get("return_value"))
            for content in body["contents"]
            for part in content["parts"]
            if "functionResponse" in part
        ]

    def said(self, body: Any) -> list[tuple[str, str]]:
        roles = {"user": "user", "model": "assistant"}
        return [
            (roles[content["role"]], part["text"])
            for content in body["contents"]
            for part in content["parts"]
            if part.get("text")
        ]
