"""Names of tool calls: in pieces, repeated, with a namespace, in the id alone, or missing."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bargein_protocol import ToolCall, ToolCallDelta
from bargein_server.agents.tool_arguments import BadArguments, decode_arguments, readable_arguments
from bargein_server.agents.tool_sources import find_name
from model_server import Call
from scripted_model import call, check_messages, say
from stub_completion import chunk, completion, outputs_of
from tool_conversation import Serve, add

TOOLS = ("search", "search_web", "get_weather", "get_time")

Piece = dict[str, Any]


def piece(name: str | None = None, arguments: Any = None, **fields: Any) -> Piece:
    """A piece of a call, as in `tool_calls`."""
    return {**fields, "function": {"name": name, "arguments": arguments}}


def made(*deltas: list[Piece], **options: Any) -> list[tuple[str, str]]:
    """Read a stream; return the calls, which must be what the client was sent."""
    result = completion(tools=TOOLS, **options)
    outputs = outputs_of([chunk(tool_calls=calls) for calls in deltas], result)
    names = {output.call_id: output.name for output in outputs if isinstance(output, ToolCall)}
    sent = dict.fromkeys(names, "")
    for output in outputs:
        if isinstance(output, ToolCallDelta):
            sent[output.call_id] += output.arguments
    calls = [(call.name, call.arguments) for call in result.calls]
    assert sorted((names[call_id], text) for call_id, text in sent.items()) == sorted(calls)
    return calls


ONE = [("get_weather", '{"x": 1}')]

STREAMS: dict[str, tuple[list[list[Piece]], list[tuple[str, str]]]] = {
    "in pieces, by index": (
        [
            [piece("get_", "", index=0, id="i")], [piece("wea", "", index=0)], [piece("ther", "", index=0)],
            [piece(None, '{"x": 1}', index=0)],
        ],
        ONE,
    ),
    "in pieces, by id": (
        [[piece("get_", id="i")], [piece("weather", id="i")], [piece("", '{"x": 1}', id="i")]],
        ONE,
    ),
    "in pieces, by nothing": ([[piece("get_")], [piece("weather")], [piece(None, '{"x": 1}')]], ONE),
    "the last piece with arguments": (
        [[piece("get_", "", index=0, id="i")], [piece("weather", '{"x"', index=0)],
         [piece(None, ": 1}", index=0)]],
        ONE,
    ),
    "whole in each piece": (
        [
            [piece("get_weather", "", index=0, id="i")], [piece("get_weather", '{"x"', index=0)],
            [piece("get_weather", ": 1}", index=0)],
        ],
        ONE,
    ),
    "longer in each piece": (
        [
            [piece("get", "", index=0, id="i")], [piece("get_wea", "", index=0)],
            [piece("get_weather", "", index=0)], [piece(None, '{"x": 1}', index=0)],
        ],
        ONE,
    ),
    "pieces of two calls in turns": (
        [
            [piece("get_", "", index=0, id="i")], [piece("get_", "", index=1, id="j")],
            [piece("weather", "", index=0)], [piece("time", "", index=1)],
            [piece(None, '{"x": 1}', index=0)], [piece(None, '{"y": 2}', index=1)],
        ],
        [*ONE, ("get_time", '{"y": 2}')],
    ),
    "a tool whose name begins another's": (
        [[piece("search", "", index=0, id="i")], [piece("_web", "", index=0)],
         [piece(None, '{"x": 1}', index=0)]],
        [("search_web", '{"x": 1}')],
    ),
    "that tool itself": (
        [[piece("search", "", index=0, id="i")], [piece(None, '{"x": 1}', index=0)]],
        [("search", '{"x": 1}')],
    ),
    "that tool without arguments": ([[piece("search", "", index=0, id="i")]], [("search", "")]),
    "two tools without arguments": (
        [[piece("get_time", "", index=0)], [piece("get_weather", "", index=0)]],
        [("get_time", ""), ("get_weather", "")],
    ),
    "with a namespace and a number, in pieces": (
        [
            [piece("functions.", "", index=0, id="functions.get_weather:0")],
            [piece("get_weather", "", index=0)], [piece(":0", "", index=0)],
            [piece(None, '{"x": 1}', index=0)],
        ],
        ONE,
    ),
    "with a namespace in each piece": (
        [[piece("functions.get_weather:0", '{"x"', index=0)],
         [piece("functions.get_weather:0", ": 1}", index=0)]],
        ONE,
    ),
    "in the id alone": ([[piece(None, '{"x": 1}', index=0, id="functions.get_weather:0")]], ONE),
    "unknown, in pieces": (
        [[piece("un", "", index=0, id="i")], [piece("known", "", index=0)], [piece(None, "{}", index=0)]],
        [("unknown", "{}")],
    ),
    "empty arguments before the real ones": (
        [[piece("get_weather", "{}", index=0, id="i")], [piece(None, '{"x"', index=0)],
         [piece(None, ": 1}", index=0)]],
        ONE,
    ),
    "empty arguments as an object, by id": (
        [[piece("get_weather", {}, index=0, id="i")], [piece("get_weather", '{"x": 1}', index=0, id="i")]],
        ONE,
    ),
    "empty arguments alone": ([[piece("get_time", "{}", index=0, id="i")]], [("get_time", "{}")]),
    "empty arguments, then another call of the tool": (
        [[piece("get_weather", "{}", index=0, id="i")], [piece("get_weather", '{"x": 1}', index=1, id="j")]],
        [("get_weather", "{}"), *ONE],
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", STREAMS)
def test_names(how: str) -> None:
    """Each call has the whole name of its tool, and is announced once."""
    deltas, calls = STREAMS[how]
    assert made(*deltas) == calls


@example("search_web", [16, 17], False, True)  # the first piece is another tool's name
@given(st.sampled_from(TOOLS), st.lists(st.integers(0, 30), max_size=4), st.booleans(), st.booleans())
def test_a_name_cut_anywhere(name: str, cuts: list[int], numbered: bool, prefixed: bool) -> None:
    """At every place, with an index or without, with a namespace or without."""
    written = f"functions.{name}:0" if prefixed else name
    bounds = [0, *sorted(min(cut, len(written)) for cut in cuts), len(written)]
    fields: dict[str, Any] = {"index": 0} if numbered else {}
    pieces = [piece(written[a:b], "", **fields) for a, b in pairwise(bounds)]
    calls = made(*([one] for one in pieces), [piece(None, '{"x": 1}', **fields)])
    assert calls == [(name, '{"x": 1}')]


def test_a_known_name_is_announced_at_once() -> None:
    """It does not wait for arguments when no longer name begins with it."""
    result = completion(tools=TOOLS)
    [announced] = result.read(chunk(tool_calls=[piece("get_weather", "", index=0, id="i")]))
    assert isinstance(announced, ToolCall)
    assert list(result.read(chunk(tool_calls=[piece("search", "", index=1, id="j")]))) == []


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("get_time", "get_time"), ("functions.get_time", "get_time"), ("functions.get_time:12", "get_time"),
        ("get_time:0", "get_time"), ("default_api.get_time", "get_time"), ("tools/get_time", "get_time"),
        ("get_time<|channel|>commentary", "get_time"), (" get_time ", "get_time"), ("get_time()", "get_time"),
        ('"get_time"', "get_time"), ("Get-Time", "get_time"), ("get_times", None), ("time", None), ("", None),
        (".", None), (":0", None),
    ],
)  # fmt: skip
def test_ways_to_write_a_name(written: str, found: str | None) -> None:
    """Only one tool can be meant, and what is no tool stays unknown."""
    assert find_name(written, TOOLS) == found


def test_a_name_that_fits_two_tools() -> None:
    """It is not guessed."""
    assert find_name("GET_TIME", ["get_time", "get-time"]) is None
    assert find_name("get-time", ["get_time", "get-time"]) == "get-time"


async def test_a_namespace_is_understood(converse: Serve) -> None:
    """The tool runs, and the model reads its own call by the name that the server takes."""
    talk = converse([call("functions.add:0", a=1, b=2)], [say("3")], tools=[add])
    await talk.ask()
    assert (talk.end.status, talk.result.output) == ("completed", 3)
    check_messages(talk.model.requests[1]["messages"])
    assert talk.model.requests[1]["messages"][1]["tool_calls"][0]["function"]["name"] == "add"


async def test_a_custom_call(converse: Serve) -> None:
    """Its input is text; the model gets a clear result, or the tool runs if the text is an object."""

    def custom(text: str) -> Any:
        def call(answer: Call, index: int) -> None:
            fields = {"name": "add", "input": text[:4]}
            answer.delta(tool_calls=[{"index": index, "id": f"c{text}", "type": "custom", "custom": fields}])
            answer.delta(tool_calls=[{"index": index, "custom": {"input": text[4:]}}])

        return call

    talk = converse([custom("one plus two")], [custom('{"a": 1, "b": 2}')], [say("3")], tools=[add])
    await talk.ask()
    assert talk.end.status == "completed"
    assert talk.model.results() == ["error: the arguments are not JSON", "3"]
    check_messages(talk.model.requests[-1]["messages"])
    assert "custom" not in json.dumps(talk.model.requests[-1]["messages"])


async def test_calls_that_were_announced_and_never_came(converse: Serve) -> None:
    """It is the model's failure, not an answer without text."""
    talk = converse([say("")], tools=[add], max_retries=0)
    talk.model.finish = "tool_calls"
    await talk.ask()
    assert (talk.end.status, talk.end.reason, talk.end.retryable) == ("failed", "upstream", True)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ('{"x": 1}<|tool_call_end|>', {"x": 1}),
        ('```json\n{"x": 1}\n```', {"x": 1}),
        ('{"x": 1}\n\nI will now wait.', {"x": 1}),
        ('<arguments>{"x": "}"}</arguments>', {"x": "}"}),
        ('{}{"x": 1}', {"x": 1}),
        ("[]", {}),
        ('[{"x": 1}]', {"x": 1}),
    ],
)
def test_text_around_arguments(text: str, given: dict[str, Any]) -> None:
    """The object is understood, and goes back to the server without the text around it."""
    assert decode_arguments(text) == given
    assert json.loads(readable_arguments(text)) == given


@pytest.mark.parametrize(
    "text", ['{"x": {"y": 1}', '{"x": 1}{"x": 2}', "x", "[1, 2]", "5", '[{"x": 1}, {"x": 2}]']
)
def test_arguments_that_are_not_one_object(text: str) -> None:
    """They are not guessed."""
    with pytest.raises(BadArguments):
        decode_arguments(text)
    assert readable_arguments(text) == text
