"""Model that a test scripts step by step, on the server of `model_server`.

    model = Model(
        [say("Let me see. "), call("add", a=1, b=2)],
        [say("It is 3.")],
    )
    async with Upstream(model) as upstream: …

Each request is answered with the next step. What the requests contained stands in `model.requests`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from model_server import Call

Part = Callable[[Call, int], None]


def say(*texts: str) -> Part:
    """Send text in pieces."""

    def part(answer: Call, index: int) -> None:
        for text in texts:
            answer.text(text)

    return part


def call(tool: str, /, *, raw: str | None = None, call_id: str | None = None, **arguments: Any) -> Part:
    """Call a tool; its arguments come in three pieces, or are `raw`."""
    text = json.dumps(arguments) if raw is None else raw

    def part(answer: Call, index: int) -> None:
        given_id = f"call_{id(answer)}_{index}" if call_id is None else call_id
        function = {"name": tool, "arguments": ""}
        answer.delta(tool_calls=[{"index": index, "id": given_id, "type": "function", "function": function}])
        third = max(1, len(text) // 3)
        for piece in filter(None, (text[:third], text[third : 2 * third], text[2 * third :])):
            answer.delta(tool_calls=[{"index": index, "function": {"arguments": piece}}])

    return part


class Model:
    """Script for `Upstream`: one step answers one request.

    Attributes:
        requests: The bodies of the requests so far.
        steps: What is answered; more may be added.
        finish: Why the model stops; None leaves that out, as a cut stream does.
    """

    def __init__(self, *steps: Sequence[Part]) -> None:
        self.steps = list(steps)
        self.requests: list[dict[str, Any]] = []
        self.finish: str | None = "stop"

    def __call__(self, answer: Call) -> None:
        step = self.steps[len(self.requests)]
        self.requests.append(answer.body)
        answer.open()
        calls = 0
        for part in step:
            part(answer, calls)
            calls += part.__qualname__.startswith("call")
        if self.finish is not None:
            answer.delta(finish_reason="tool_calls" if calls else self.finish)
        answer.usage(10, 2)
        answer.done()

    def results(self, request: int = -1) -> list[str]:
        """Return the tool results in a request."""
        return [message["content"] for message in self.requests[request]["messages"] if is_result(message)]


def is_result(message: dict[str, Any]) -> bool:
    """Whether a message is the result of a tool."""
    return bool(message["role"] == "tool")


def check_messages(messages: Sequence[dict[str, Any]]) -> None:
    """Fail where the API of chat completions would answer 400.

    After a message with tool calls come their results, one for each and nothing between; no other
    result; names, ids and arguments are as the API takes them.
    """
    waiting: list[str] = []
    for position, message in enumerate(messages):
        where = f"message {position} of {messages}"
        if is_result(message):
            assert message["tool_call_id"] in waiting, f"a result that no call asked for: {where}"
            waiting.remove(message["tool_call_id"])
            assert isinstance(message["content"], str), where
            continue
        assert not waiting, f"calls without a result before {where}"
        calls = message.get("tool_calls", [])
        assert message["role"] in ("system", "user", "assistant"), where
        assert calls or isinstance(message["content"], str), where
        if "tool_calls" in message:
            assert message["role"] == "assistant", where
            assert calls, where
        for made in calls:
            assert made["type"] == "function", where
            assert isinstance(json.loads(made["function"]["arguments"]), dict), where
            name = made["function"]["name"]
            assert 0 < len(name) <= 64, where
            assert name.replace("-", "_").replace("_", "a").isalnum(), where
            assert name.isascii(), where
        waiting = [made["id"] for made in calls]
        assert len(set(waiting)) == len(waiting), f"an id twice in {where}"
    assert not waiting, f"calls without a result at the end of {messages}"
