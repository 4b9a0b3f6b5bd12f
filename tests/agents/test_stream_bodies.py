"""Bodies that servers send in place of a proper event stream, and ends that never come."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bargein_protocol import Thought, ToolCall
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.event_stream import USAGE_S, ServerReported, StreamCut, read_chunks
from memory_client import Line, serve
from model_server import Call, Upstream
from stub_completion import StubBody, chunk, completion, outputs_of
from waiting import until

TEXT, STOP = chunk(content="Hi"), chunk("stop")


async def chunks_of(body: str, kind: str = "text/event-stream") -> list[dict[str, Any]]:
    """Return the chunks of a body that comes byte by byte."""
    data = body.encode()
    pieces = [data[at : at + 1] for at in range(len(data))]
    return [item async for item in read_chunks(StubBody(*pieces, kind=kind), 5, 5)]


A, B = json.dumps(TEXT), json.dumps(STOP)

BODIES = {
    "no blank line between events": (f"data: {A}\ndata: {B}\ndata: [DONE]\n", "text/event-stream"),
    "no space, and names of events": (f"event: x\ndata:{A}\n\nid: 1\ndata:{B}\n\n", "text/event-stream"),
    "an object over many lines": (
        "".join(f"data: {line}\n" for line in json.dumps(TEXT, indent=1).splitlines()) + f"\ndata: {B}\n\n",
        "text/event-stream",
    ),
    "a stream that is called text": (f"data: {A}\n\ndata: {B}\n\n", "text/plain; charset=utf-8"),
    "a stream that is called JSON": (f"data: {A}\n\ndata: {B}\n\n", "application/json"),
    "a stream that is called bytes": (f": hi\n\ndata: {A}\n\ndata: {B}\n\n", "application/octet-stream"),
    "an object in each line": (f"{A}\n{B}\n", "application/x-ndjson"),
    "an object in each line of a stream": (f"{A}\r\n\r\n{B}", "text/event-stream"),
}


@pytest.mark.parametrize("how", BODIES)
async def test_bodies(how: str) -> None:
    """The chunks are found, whatever the body is called."""
    body, kind = BODIES[how]
    assert [item for item in await chunks_of(body, kind) if item] == [TEXT, STOP]


async def test_events_without_blank_lines_arrive_at_once() -> None:
    """Each is read from its line, not at the end of the body."""
    first = asyncio.Event()

    class Slow(StubBody):
        async def aiter_bytes(self) -> Any:
            yield f"data: {A}\n".encode()
            await first.wait()

    chunks = read_chunks(Slow(), 5, 5)
    assert await anext(chunks) == TEXT
    first.set()
    await chunks.aclose()


async def test_control_characters_in_a_string() -> None:
    """Servers that escape by hand forget some."""
    assert await chunks_of('data: {"choices": [], "x": "a\x0b\x01b"}\n\n') == [
        {"choices": [], "x": "a\x0b\x01b"}
    ]


ERRORS = {
    "an event of its own": 'event: error\ndata: {"message": "slow down", "code": 503}\n\n',
    "a type": 'data: {"type": "error", "message": "slow down"}\n\n',
    "an object": 'data: {"object": "error", "message": "slow down", "code": 400}\n\n',
    "in a choice": 'data: {"choices": [{"delta": {}, "error": {"message": "slow down"}}]}\n\n',
    "nested": 'data: {"error": {"error": {"msg": "slow down"}}}\n\n',
    "without data:": '{"error": {"message": "slow down"}}\n',
    "without data:, over many lines": '{\n "error": {\n  "message": "slow down"\n }\n}\n',
}


@pytest.mark.parametrize("how", ERRORS)
async def test_errors(how: str) -> None:
    """The server's message is not lost."""
    with pytest.raises(ServerReported, match="slow down"):
        await chunks_of(ERRORS[how])


@pytest.mark.parametrize("field", ["message", "msg", "detail", "error"])
async def test_an_error_with_status_200(field: str) -> None:
    """JSON without choices that has a message is the server's error."""
    with pytest.raises(ServerReported, match="no credit"):
        await chunks_of(json.dumps({"code": 1113, field: "no credit"}), "application/json")


# One answer


def test_several_choices() -> None:
    """One of them is read, also when each has chunks of its own."""

    def of(index: int, text: str) -> dict[str, Any]:
        return {"choices": [{"index": index, "delta": {"content": text}}]}

    assert outputs_of([of(1, "B"), of(0, "A"), of(1, "b"), of(0, "a"), STOP]) == ["B", "b"]
    assert outputs_of([of(0, "A"), of(1, "B"), of(0, "a"), of(1, "b"), STOP]) == ["A", "a"]


def test_the_whole_message_at_the_end() -> None:
    """It is not said a second time, nor are its calls made."""
    call = {"index": 0, "id": "i", "function": {"name": "a", "arguments": '{"x": 1}'}}
    whole = {"choices": [{"message": {"content": "Hi", "tool_calls": [call]}, "finish_reason": "stop"}]}
    assert outputs_of([TEXT, whole]) == ["Hi"]
    result = completion()
    assert [type(output) for output in outputs_of([whole], result)][:2] == [str, ToolCall]


def test_text_completions() -> None:
    """The form of the older API."""
    assert outputs_of([{"choices": [{"text": "Hi", "finish_reason": "stop"}]}]) == ["Hi"]


@pytest.mark.parametrize(
    "field",
    ["reasoning_content", "reasoning", "thinking", "reasoning_text", "thinking_content", "thought"],
)
def test_names_of_thoughts(field: str) -> None:
    """Each name that servers use; one that has no text does not hide another."""
    assert outputs_of([chunk(**{field: "Hm"})]) == [Thought(text="Hm")]
    details = [{"type": "reasoning.text", "text": "Hm"}]
    assert outputs_of([chunk(**{field: {"effort": 5}}, reasoning_details=details)]) == [Thought(text="Hm")]
    assert outputs_of([chunk(**{field: "Hm"}, reasoning_details=details)]) == [Thought(text="Hm")]


def test_two_calls_with_one_id_and_no_index() -> None:
    """Other arguments are another call; the same ones are a repetition, whole or in pieces."""

    def piece(arguments: str) -> dict[str, Any]:
        return chunk(tool_calls=[{"id": "i", "function": {"name": "a", "arguments": arguments}}])

    result = completion()
    texts = ('{"x": 1}', '{"x": 2}', '{"x": 2}', '{"x"', ": 2}")
    outputs_of([piece(text) for text in texts], result)
    assert [call.arguments for call in result.calls] == ['{"x": 1}', '{"x": 2}']


# Ends


@pytest.mark.parametrize("reason", [None, "", "null"])
async def test_an_answer_without_a_finish_reason(reason: str | None) -> None:
    """The mark of the end is enough, unless nothing was said."""

    def answer(call: Call) -> None:
        call.open()
        call.delta(reason, content="Hi")
        call.done()

    async with Upstream(answer) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url, max_retries=0))
        line = Line(sessions)
        line.ask()
        await line.until("turn.ended")
        await sessions.shut_down()
    assert (line.ends()[0].status, line.ends()[0].heard.text) == ("completed", "Hi")


@pytest.mark.virtual_time
@pytest.mark.parametrize("alive", [False, True])
async def test_a_stream_that_goes_on_after_the_answer(alive: bool) -> None:
    """The turn ends soon after the finish reason, also when comments keep the stream alive."""
    async with Upstream() as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url))
        line = Line(sessions)
        line.ask()
        await until(lambda: upstream.calls, "the request")
        [call] = upstream.calls
        call.open()
        call.text("Hi")
        call.delta("stop")
        await until(lambda: line.texts() == ["Hi"], "the text")
        began = asyncio.get_running_loop().time()
        while not line.ends():
            if alive:
                call.comment()
            await asyncio.sleep(1)
            assert asyncio.get_running_loop().time() - began < USAGE_S + 3
        assert line.ends()[0].status == "completed"
        assert await call.gone() in ("eof", "reset")
        await sessions.shut_down()


async def test_the_count_of_tokens_after_the_answer() -> None:
    """It may come later than the finish reason."""

    class Slow(StubBody):
        async def aiter_bytes(self) -> Any:
            yield f"data: {B}\n\n".encode()
            await asyncio.sleep(0.05)
            yield b'data: {"choices": [], "usage": {"prompt_tokens": 3}}\n\n'

    items = [item async for item in read_chunks(Slow(), 5, 5)]
    assert items[1]["usage"] == {"prompt_tokens": 3}


async def test_a_body_that_is_neither() -> None:
    """It is cut, as before."""
    with pytest.raises(StreamCut, match="not JSON"):
        await chunks_of("data: {oops\n\n")
