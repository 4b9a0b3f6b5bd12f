"""Chunks of any shape: what can be understood is used, and nothing is the agent's error."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_protocol import JSON, Thought, ToolCall, ToolCallDelta, TurnEnded
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.completion import Completion
from bargein_server.agents.event_stream import NotAStream, ServerReported, StreamCut, read_chunks
from memory_client import Line, serve
from model_server import Call, Upstream
from stub_completion import StubBody, chunk, completion, outputs_of

PART = {"type": "text", "text": "Hi"}

# A chunk of some server, and the text that it contains.
ODD: dict[str, tuple[Any, str]] = {
    "no delta": ({"choices": [{"index": 0}]}, ""),
    "null delta": ({"choices": [{"delta": None}]}, ""),
    "delta is a text": ({"choices": [{"delta": "Hi"}]}, ""),
    "delta is a list": ({"choices": [{"delta": []}]}, ""),
    "a message": ({"choices": [{"message": {"content": "Hi"}}]}, "Hi"),
    "another choice before it": (
        {"choices": [{"index": 1, "delta": {"content": "No"}}, {"index": 0, "delta": {"content": "Hi"}}]},
        "Hi",
    ),
    "null choice": ({"choices": [None]}, ""),
    "no choices": ({"id": "c"}, ""),
    "null choices": ({"choices": None}, ""),
    "one choice without a list": ({"choices": {"delta": {"content": "Hi"}}}, "Hi"),
    "choices are a text": ({"choices": "Hi"}, ""),
    "parts": (chunk(content=[PART, PART]), "HiHi"),
    "parts of texts": (chunk(content=["Hi", None, 5, {"type": "text"}]), "Hi"),
    "one part": (chunk(content=PART), "Hi"),
    "content is a number": (chunk(content=5), ""),
    "content is true": (chunk(content=True), ""),
    "refusal in parts": (chunk(content=[{"type": "refusal", "refusal": "No"}]), "No"),
    "tool calls are a text": (chunk(tool_calls="add"), ""),
    "tool calls of null": (chunk(tool_calls=[None, 5, "x", {}]), ""),
    "function is null": (chunk(tool_calls=[{"index": 0, "function": None}]), ""),
    "function is a text": (chunk(tool_calls=[{"index": 0, "function": "add"}]), ""),
    "name is null": (chunk(tool_calls=[{"function": {"name": None, "arguments": None}}]), ""),
    "name is a number": (chunk(tool_calls=[{"function": {"name": 5, "arguments": 5}}]), ""),
    "index is a text": (chunk(tool_calls=[{"index": "x", "function": {"arguments": "{}"}}]), ""),
    "finish reason is an object": (chunk({"type": "stop"}, content="Hi"), "Hi"),
    "usage is a list": ({"usage": [1], "choices": []}, ""),
    "usage is odd": ({"usage": {"prompt_tokens": "x", "completion_tokens": None}, "choices": []}, ""),
    "usage is huge": ({"usage": {"prompt_tokens": 1e300, "completion_tokens": -5}, "choices": []}, ""),
    "id and model are numbers": ({"id": 5, "model": 7, "choices": [{"delta": {"content": "Hi"}}]}, "Hi"),
    "an event of null": (None, ""),
    "an event of a number": (5, ""),
    "an event of a list": ([{"choices": []}], ""),
    "an empty object": ({}, ""),
    "reasoning is an object": (chunk(reasoning={"text": 5}, content="Hi"), "Hi"),
    "reasoning is a number": (chunk(reasoning_content=7, content="Hi"), "Hi"),
    "unknown fields": (chunk(content="Hi", extra={"a": [1, {"b": None}]}, annotations=[[]]), "Hi"),
}  # fmt: skip


async def end_of(answer: Any, **options: Any) -> TurnEnded:
    """Ask a model that answers as given; return the end of the turn."""
    async with Upstream(answer) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url, max_retries=0, **options))
        line = Line(sessions)
        line.ask()
        await line.until("turn.ended")
        await sessions.shut_down()
        return line.ends()[0]


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_chunk(odd: str) -> None:
    """The answer around it arrives, and so does the text in it."""
    data, text = ODD[odd]

    def answer(call: Call) -> None:
        call.open()
        call.text("<")
        call.event(json.dumps(data))
        call.text(">")
        call.finish()

    end = await end_of(answer)
    assert (end.status, end.heard.text) == ("completed", f"<{text}>")


@pytest.mark.parametrize(
    "data", ["{oops", "[" * 100_000, '{"error": "overloaded"}', '{"error": {"message": 5}}', '{"error": [1]}']
)
async def test_what_cannot_be_understood(data: str) -> None:
    """It is the model's failure, and may pass."""

    def answer(call: Call) -> None:
        call.open()
        call.text("Hi")
        call.event(data)

    end = await end_of(answer)
    assert (end.status, end.reason, end.retryable) == ("failed", "upstream", True)


@pytest.mark.parametrize("body", ["null", "[]", "5", '"text"', '{"error": null}', '{"choices": 5}'])
async def test_an_answer_that_is_json(body: str) -> None:
    """JSON without a completion is a failure as well; see the next test for one that is a completion."""
    end = await end_of(lambda call: call.reply(200, json.loads(body)))
    assert (end.status, end.reason) == ("failed", "upstream")


async def test_a_server_that_does_not_stream() -> None:
    """A whole completion is an answer in one piece."""
    message = {"role": "assistant", "content": "Hello", "tool_calls": None}
    whole = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
    end = await end_of(lambda call: call.reply(200, whole))
    assert (end.status, end.heard.text) == ("completed", "Hello")


@pytest.mark.parametrize("body", [{"error": {"message": "no"}}, {"error": "no"}, "no", ["no"], None, 5])
@pytest.mark.parametrize("status", [400, 404, 422, 500])
async def test_an_odd_refusal(status: int, body: Any) -> None:
    """The body of an error may have any shape, too."""
    end = await end_of(lambda call: call.reply(status, body))
    assert (end.status, end.reason) == ("failed", "upstream")


def test_thoughts_in_parts() -> None:
    """Parts of thinking are thoughts, whatever they are called."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    assert outputs_of([chunk(content=[thinking, PART])]) == [Thought(text="Hm"), "Hi"]
    assert outputs_of([chunk(reasoning=[{"type": "reasoning.text", "text": "Hm"}])]) == [Thought(text="Hm")]


# Any shape

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "type", "index", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def like(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of the fields, each of its shape or of any."""
    return st.fixed_dictionaries({}, optional={name: kind | ANY for name, kind in fields.items()}) | ANY


TEXT = st.sampled_from(["", "Hi", "<think>", "</think>", "\ud83d", "\ude00", '{"a": 1}', '{"a"', ": 1}", "{"])
FUNCTION = like(name=st.sampled_from(["add", "sub", "final"]), arguments=TEXT)
TOOL_CALL = like(id=st.sampled_from(["a", "b"]), index=st.integers(0, 2), function=FUNCTION, name=TEXT)
DELTA = like(
    content=TEXT,
    reasoning_content=TEXT,
    refusal=TEXT,
    tool_calls=st.lists(TOOL_CALL, max_size=3),
    function_call=FUNCTION,
    reasoning_details=st.lists(like(index=st.integers(0, 1), text=TEXT), max_size=2),
)
CHOICE = like(delta=DELTA, message=DELTA, finish_reason=st.sampled_from(["stop", "length", "error"]))
USAGE = like(prompt_tokens=st.integers(), completion_tokens=st.floats())
CHUNK = like(choices=st.lists(CHOICE, max_size=2), usage=USAGE, id=TEXT, model=TEXT, error=st.none())


def consistent(result: Completion, outputs: list[Any]) -> None:
    """Check what holds for every answer."""
    for output in outputs:
        if isinstance(output, str):
            output.encode()
        else:
            JSON.encode(output)
    pieces = [output.arguments for output in outputs if isinstance(output, ToolCallDelta)]
    assert all(pieces)
    assert len([output for output in outputs if isinstance(output, ToolCall)]) >= len(result.calls) - 1
    for call in result.calls:
        assert call.name
        call.arguments.encode()
    json.dumps([result.fields.message, list(result.fields.calls)]).encode()
    assert len(result.fields.calls) == len(result.calls)


@given(
    st.lists(CHUNK, max_size=6),
    st.sampled_from([None, ("final", "answer")]),
    st.sampled_from([None, "begin", "anywhere"]),
)
def test_chunks_of_any_shape(
    chunks: list[Any], final: tuple[str, str] | None, think_tags: str | None
) -> None:
    """No shape raises anything but the failure of a model, and all outputs can be sent."""
    result = completion(final=final, think_tags=think_tags)
    outputs: list[Any] = []
    try:
        for item in chunks:
            if isinstance(item, dict):
                outputs += result.read(item)
    except StreamCut:
        pass
    outputs += result.finish()
    consistent(result, outputs)


@given(
    st.lists(CHUNK | TEXT, max_size=5),
    st.lists(st.integers(0, 400), max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_bytes_of_any_cut(items: list[Any], cuts: list[int], end: str, done: bool) -> None:
    """An event stream may be cut at every byte, and end its lines in three ways."""
    events = [item if isinstance(item, str) else json.dumps(item) for item in items]
    stream = "".join(f": comment{end}data: {event}{end}{end}" for event in events)
    stream += f"data: [DONE]{end}{end}" if done else ""
    data = stream.encode("utf-8", "surrogatepass")
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(bounds)]

    async def read(*parts: bytes) -> list[Any]:
        chunks: list[Any] = []
        try:
            async for item in read_chunks(StubBody(*parts), 5, 5):
                chunks.append(item)
        except StreamCut as cut:
            chunks.append(type(cut))
        return chunks

    whole, cut_up = asyncio.run(read(data)), asyncio.run(read(*pieces))
    assert json.dumps(whole, default=str) == json.dumps(cut_up, default=str)


async def test_kinds_of_bodies() -> None:
    """A body without a type is a stream; a page is none; an error event is the server's message."""
    text = b'data: {"choices": []}\n\n'
    assert [item async for item in read_chunks(StubBody(text, kind=None), 5, 5)] == [{"choices": []}]
    assert [item async for item in read_chunks(StubBody(b"\xef\xbb\xbf" + text.rstrip()), 5, 5)] == [
        {"choices": []}
    ]
    with pytest.raises(NotAStream, match="text/html"):
        await anext(read_chunks(StubBody(b"<html>", kind="text/html"), 5, 5))
    with pytest.raises(ServerReported, match="slow down"):
        await anext(read_chunks(StubBody(b'data: {"error": {"message": "slow down"}}\n\n'), 5, 5))


@pytest.mark.parametrize("text", ["a" * 3_000_000, '"\x01' * 300_000], ids=["long", "escaped"])
async def test_an_answer_in_one_huge_piece(text: str) -> None:
    """Thoughts, text and arguments are sent in pieces that fit; the turn goes on."""
    steps = [
        {"tool_calls": [{"id": "i", "function": {"name": "a", "arguments": json.dumps({"x": text})}}]},
        {"reasoning_content": text, "content": text},
    ]

    def answer(call: Call) -> None:
        whole = {"message": steps.pop(0), "finish_reason": "stop"}
        call.reply(200, {"choices": [whole]})

    async with Upstream(answer) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url))
        line = Line(sessions)
        line.ask()
        await line.until("turn.ended")
        await sessions.shut_down()
    assert line.ends()[0].status == "completed"
    assert "".join(line.texts()) == text
    assert "".join(event.text for event in line.events if isinstance(event, Thought)) == text
    sent = "".join(event.arguments for event in line.events if isinstance(event, ToolCallDelta))
    assert json.loads(sent) == {"x": text}
