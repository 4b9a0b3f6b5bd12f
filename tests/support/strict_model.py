"""Model's server that refuses invalid requests as OpenAI does, for agents of frameworks.

It speaks both APIs, chat completions and Responses, on the raw sockets of `model_server`, token by token. A
test scripts it step by step, one step for each request that is valid:

    model = StrictModel([say("Let me see. "), call("look_up", city="Oslo")], [say("Sunny.")])

A `PAUSE` stops a stream until `model.resume()`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from model_server import Call


class Say(NamedTuple):
    """Text, one token a word."""

    text: str


class CallTool(NamedTuple):
    """Call of a tool, whose arguments come in pieces of four characters."""

    name: str
    arguments: dict[str, Any]
    pause_at: int | None


class Think(NamedTuple):
    """Thought."""

    text: str


PAUSE = None
Part = Say | CallTool | Think | None
Said = tuple[str, ...]


def say(text: str) -> Say:
    """Send text."""
    return Say(text)


def call(name: str, /, pause_at: int | None = None, **arguments: Any) -> CallTool:
    """Call a tool; `pause_at` is the number of characters of its arguments before a pause."""
    return CallTool(name, arguments, pause_at)


class Refusal(Exception):
    """The request is invalid; OpenAI's message."""


class StrictModel:
    """Script for `model_server.Upstream`.

    Attributes:
        steps: What is answered; more may be added.
        heard: What each accepted request said, without instructions: roles, texts, calls, results.
        bodies: The bodies of the accepted requests.
        refusals: Messages of the requests that were refused.
        answered: The accepted requests' connections.
    """

    def __init__(self, *steps: Sequence[Part]) -> None:
        self.steps = list(steps)
        self.heard: list[list[Said]] = []
        self.bodies: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self.answered: list[Call] = []
        self._paused: list[Iterator[None]] = []

    def __call__(self, request: Call) -> None:
        """Answer a request up to its first pause."""
        try:
            said = self.read(request)
        except Refusal as refusal:
            self.refusals.append(str(refusal))
            error = {"message": str(refusal), "type": "invalid_request_error", "param": None, "code": None}
            request.reply(400, {"error": error})
            return
        step = self.steps[len(self.heard)]
        self.heard.append(said)
        self.bodies.append(request.body)
        self.answered.append(request)
        self._go_on(_play(self.answer(request), step))

    def read(self, request: Call) -> list[Said]:
        """Return what a request says."""
        if request.path.endswith("/responses"):
            return read_items(request.body["input"])
        return read_messages(request.body["messages"])

    def answer(self, request: Call) -> ModelAnswer:
        """Return the answer to an accepted request."""
        kind = ResponseAnswer if request.path.endswith("/responses") else ChatAnswer
        return kind(request, len(self.heard))

    def resume(self) -> None:
        """Continue all paused streams."""
        paused, self._paused = self._paused, []
        for stream in paused:
            self._go_on(stream)

    def _go_on(self, stream: Iterator[None]) -> None:
        if next(stream, self) is None:
            self._paused.append(stream)


def _play(answer: ModelAnswer, step: Sequence[Part]) -> Iterator[None]:
    """Send a step; yields at each pause."""
    if step[:1] == [PAUSE]:
        yield  # before the head
    answer.begin()
    for index, part in enumerate(step):
        if part is PAUSE:
            if index:
                yield
        elif isinstance(part, CallTool):
            text = json.dumps(part.arguments)
            answer.begin_call(part.name)
            pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
            for number, piece in enumerate(pieces):
                if part.pause_at is not None and 4 * number == part.pause_at:
                    yield
                answer.add_arguments(piece)
            answer.end_call(text)
        elif isinstance(part, Think):
            answer.think(part.text)
        else:
            for word in _words(part.text):
                answer.add_text(word)
    answer.end()


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


class ModelAnswer(Protocol):
    """Answer in the form of one API."""

    def begin(self) -> None: ...
    def think(self, text: str) -> None: ...
    def add_text(self, text: str) -> None: ...
    def begin_call(self, name: str) -> None: ...
    def add_arguments(self, piece: str) -> None: ...
    def end_call(self, arguments: str) -> None: ...
    def end(self) -> None: ...


class ChatAnswer:
    """Answer in the form of chat completions.

    A name with spaces is sent in so many pieces, without the spaces.
    """

    def __init__(self, request: Call, number: int) -> None:
        self._request = request
        self._number = number
        self._calls = 0

    def begin(self) -> None:
        self._request.open()
        self._request.delta(role="assistant", content="")

    def think(self, text: str) -> None:
        self._request.delta(reasoning_content=text)

    def add_text(self, text: str) -> None:
        self._request.delta(content=text)

    def begin_call(self, name: str) -> None:
        call_id = f"call_{self._number}_{self._calls}"
        first, *rest = name.split()
        function = {"name": first, "arguments": ""}
        self._request.delta(
            tool_calls=[{"index": self._calls, "id": call_id, "type": "function", "function": function}]
        )
        for piece in rest:
            self._request.delta(tool_calls=[{"index": self._calls, "function": {"name": piece}}])

    def add_arguments(self, piece: str) -> None:
        self._request.delta(tool_calls=[{"index": self._calls, "function": {"arguments": piece}}])

    def end_call(self, arguments: str) -> None:
        self._calls += 1

    def end(self) -> None:
        self._request.delta(finish_reason="tool_calls" if self._calls else "stop")
        self._request.usage(10, 2)
        self._request.done()


class ResponseAnswer:
    """Answer in the form of the Responses API."""

    def __init__(self, request: Call, number: int) -> None:
        self._request = request
        self._number = number
        self._sequence = 0
        self._items: list[dict[str, Any]] = []
        self._text = ""
        self._open = False

    def _event(self, kind: str, **fields: Any) -> None:
        self._request.event({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1

    def _response(self, status: str) -> dict[str, Any]:
        usage = {
            "input_tokens": 10,
            "output_tokens": 2,
            "total_tokens": 12,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        return {
            "id": f"resp_{self._number}",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": status,
            "output": self._items if status == "completed" else [],
            "usage": usage if status == "completed" else None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "temperature": 1,
            "top_p": 1,
        }

    @property
    def _index(self) -> int:
        return len(self._items)

    def begin(self) -> None:
        self._request.open()
        self._event("response.created", response=self._response("in_progress"))

    def think(self, text: str) -> None:
        item = {"id": f"rs_{self._index}", "type": "reasoning", "summary": []}
        at = {"item_id": item["id"], "output_index": self._index, "summary_index": 0}
        part = {"type": "summary_text", "text": ""}
        self._event("response.output_item.added", output_index=self._index, item=item)
        self._event("response.reasoning_summary_part.added", **at, part=part)
        self._event("response.reasoning_summary_text.delta", **at, delta=text)
        self._event("response.reasoning_summary_text.done", **at, text=text)
        done = {**item, "summary": [{"type": "summary_text", "text": text}]}
        self._event("response.output_item.done", output_index=self._index, item=done)
        self._items.append(done)

    def _message(self, status: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": self._text, "annotations": [], "logprobs": []}]
        return {
            "id": f"msg_{self._number}_{self._index}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content if status == "completed" else [],
        }

    def add_text(self, text: str) -> None:
        at = {"item_id": f"msg_{self._number}_{self._index}", "output_index": self._index, "content_index": 0}
        if not self._open:
            self._open = True
            self._event(
                "response.output_item.added", output_index=self._index, item=self._message("in_progress")
            )
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self._event("response.content_part.added", **at, part=part)
        self._text += text
        self._event("response.output_text.delta", **at, delta=text, logprobs=[])

    def _end_text(self) -> None:
        if not self._open:
            return
        message = self._message("completed")
        at = {"item_id": message["id"], "output_index": self._index, "content_index": 0}
        self._event("response.output_text.done", **at, text=self._text, logprobs=[])
        self._event("response.content_part.done", **at, part=message["content"][0])
        self._event("response.output_item.done", output_index=self._index, item=message)
        self._items.append(message)
        self._open, self._text = False, ""

    def _call(self, arguments: str, status: str) -> dict[str, Any]:
        return {
            "id": f"fc_{self._number}_{self._index}",
            "type": "function_call",
            "call_id": f"call_{self._number}_{self._index}",
            "name": self._name,
            "arguments": arguments,
            "status": status,
        }

    def begin_call(self, name: str) -> None:
        self._end_text()
        self._name = name
        self._event(
            "response.output_item.added", output_index=self._index, item=self._call("", "in_progress")
        )

    def add_arguments(self, piece: str) -> None:
        item_id = f"fc_{self._number}_{self._index}"
        self._event(
            "response.function_call_arguments.delta",
            item_id=item_id,
            output_index=self._index,
            delta=piece,
        )

    def end_call(self, arguments: str) -> None:
        item = self._call(arguments, "completed")
        self._event(
            "response.function_call_arguments.done",
            item_id=item["id"],
            output_index=self._index,
            name=item["name"],
            arguments=arguments,
        )
        self._event("response.output_item.done", output_index=self._index, item=item)
        self._items.append(item)

    def end(self) -> None:
        self._end_text()
        self._event("response.completed", response=self._response("completed"))
        self._request.done()


def _demand(condition: object, message: str) -> None:
    if not condition:
        raise Refusal(message)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    _demand(isinstance(content, list), f"Invalid content: {content!r}")
    kinds = {"text", "input_text", "output_text", "refusal"}
    _demand(all(part.get("type") in kinds for part in content), f"Invalid content part in {content!r}")
    return "".join(part["text"] for part in content)


def _check_call(name: Any, arguments: Any) -> None:
    legal = isinstance(name, str) and name.replace("-", "_").replace("_", "a").isalnum() and len(name) <= 64
    _demand(legal, f"Invalid name: {name!r}")
    try:
        decoded = json.loads(arguments)
    except (TypeError, ValueError):
        decoded = None
    _demand(isinstance(decoded, dict), f"Invalid arguments: {arguments!r}")


def _written(arguments: str) -> str:
    """Return arguments in one way of writing JSON."""
    return json.dumps(json.loads(arguments), sort_keys=True)


def read_messages(messages: Sequence[dict[str, Any]]) -> list[Said]:
    """Return what messages of chat completions say.

    Raises:
        Refusal: OpenAI answers such messages with 400.
    """
    said: list[Said] = []
    waiting: list[str] = []
    for at, message in enumerate(messages):
        role = message.get("role")
        if role == "tool":
            answered = str(message.get("tool_call_id"))
            _demand(
                answered in waiting,
                f"messages.{at}: messages with role 'tool' must be a response to a preceding message with"
                " 'tool_calls'",
            )
            waiting.remove(answered)
            said.append(("result", _text_of(message.get("content"))))
            continue
        _demand(
            not waiting,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            f" 'tool_call_id'. The following tool_call_ids did not have response messages: {waiting}",
        )
        _demand(role in ("system", "developer", "user", "assistant"), f"Invalid role: {role!r}")
        calls = message.get("tool_calls")
        _demand(calls is None or (role == "assistant" and calls), f"messages.{at}: tool_calls is empty")
        content = message.get("content")
        _demand(content is not None or calls, f"messages.{at}: expected content, got null")
        if content and role in ("user", "assistant"):
            said.append((role, _text_of(content)))
        for made in calls or ():
            _demand(made.get("type") == "function" and made.get("id"), f"messages.{at}: invalid call")
            function = made["function"]
            _check_call(function.get("name"), function.get("arguments"))
            said.append(("call", function["name"], _written(function["arguments"])))
            waiting.append(made["id"])
        _demand(len(set(waiting)) == len(waiting), f"messages.{at}: an id twice")
    _demand(not waiting, f"tool_call_ids did not have response messages: {waiting}")
    return said


def read_items(items: str | Sequence[dict[str, Any]]) -> list[Said]:
    """Return what input items of the Responses API say; otherwise as `read_messages`."""
    if isinstance(items, str):
        return [("user", items)]
    said: list[Said] = []
    calls: set[str] = set()
    outputs: set[str] = set()
    for at, item in enumerate(items):
        match item.get("type", "message"):
            case "message":
                role = item.get("role")
                _demand(role in ("system", "developer", "user", "assistant"), f"input[{at}]: role {role!r}")
                if role in ("user", "assistant"):
                    said.append((role, _text_of(item.get("content"))))
            case "function_call":
                _check_call(item.get("name"), item.get("arguments"))
                _demand(item["call_id"] not in calls, f"input[{at}]: an id twice")
                calls.add(item["call_id"])
                said.append(("call", item["name"], _written(item["arguments"])))
            case "function_call_output":
                call_id = item["call_id"]
                _demand(call_id in calls - outputs, f"No tool call found for call id {call_id}.")
                outputs.add(call_id)
                said.append(("result", _text_of(item["output"])))
            case "reasoning":
                pass
            case other:
                raise Refusal(f"input[{at}]: unknown type {other!r}")
    missing = sorted(calls - outputs)
    _demand(not missing, f"No tool output found for function call {', '.join(missing)}.")
    return said
