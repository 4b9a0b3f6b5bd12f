"""Parallel calls, told apart by id, by index, and by their structure."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_protocol import ToolCall, ToolCallDelta
from stub_completion import chunk, completion, outputs_of

Piece = dict[str, Any]


def piece(name: str | None = None, arguments: Any = None, **fields: Any) -> Piece:
    """A piece of a call, as in `tool_calls`."""
    return {**fields, "function": {"name": name, "arguments": arguments}}


A, B = ("a", '{"x": 1}'), ("b", '{"y": {"z": 2}}')

STREAMS: dict[str, list[list[Piece]]] = {
    "numbered": [
        [piece("a", "", index=0, id="i")], [piece("b", "", index=1, id="j")],
        [piece(None, '{"x"', index=0)], [piece(None, '{"y": {"z"', index=1)],
        [piece(None, ": 1}", index=0)], [piece(None, ": 2}}", index=1)],
    ],
    "all numbered 0, ids with the first piece": [
        [piece("a", "", index=0, id="i")], [piece(None, '{"x"', index=0)], [piece(None, ": 1}", index=0)],
        [piece("b", "", index=0, id="j")], [piece(None, '{"y": {"z"', index=0)],
        [piece(None, ": 2}}", index=0)],
    ],
    "all numbered 0, no ids after the first call": [
        [piece("a", '{"x"', index=0, id="i")], [piece(None, ": 1}", index=0)],
        [piece("b", '{"y": {', index=0)], [piece(None, '"z": 2}}', index=0)],
    ],
    "neither numbers nor ids": [
        [piece("a", '{"x": 1}')], [piece("b")],
        [piece(None, '{"y": ')], [piece(None, '{"z": 2}')], [piece(None, "}")],
    ],
    "numbers null, ids with each piece": [
        [piece("a", '{"x"', index=None, id="i")], [piece("b", '{"y"', index=None, id="j")],
        [piece(None, ": 1}", index=None, id="i")], [piece(None, ': {"z": 2}}', index=None, id="j")],
    ],
    "ids and names with each piece": [
        [piece("a", '{"x"', index=0, id="i")], [piece("a", ": 1}", index=0, id="i")],
        [piece("b", '{"y"', index=1, id="j")], [piece("b", ': {"z": 2}}', index=1, id="j")],
    ],
    "the same id for both": [
        [piece("a", '{"x"', index=0, id="i"), piece("b", '{"y"', index=1, id="i")],
        [piece(None, ": 1}", index=0, id="i"), piece(None, ': {"z": 2}}', index=1, id="i")],
    ],
    "another id with each piece": [
        [piece("a", '{"x"', index=0, id="i")], [piece(None, ": 1}", index=0, id="k")],
        [piece("b", '{"y"', index=1, id="j")], [piece(None, ': {"z": 2}}', index=1, id="l")],
    ],
    "the id later": [
        [piece("a", '{"x"', index=0)], [piece(None, ": 1}", index=0, id="i")],
        [piece("b", '{"y"', index=1)], [piece("b", ': {"z": 2}}', index=1, id="j")],
    ],
    "arguments before names": [
        [piece(None, '{"x"', index=0, id="i")], [piece("a", ": 1}", index=0)],
        [piece(None, '{"y"', index=1)], [piece("b", ': {"z": 2}}', index=1, id="j")],
    ],
    "whole, as objects": [
        [piece("a", {"x": 1}, index=0, id="i"), piece("b", {"y": {"z": 2}}, index=1, id="j")],
    ],
    "whole, and repeated at the end": [
        [piece("a", '{"x": 1}', index=0, id="i"), piece("b", '{"y": {"z": 2}}', index=1, id="j")],
        [piece("a", '{"x": 1}', index=0, id="i"), piece("b", '{"y": {"z": 2}}', index=1, id="j")],
    ],
    "ids are numbers, indices are texts": [
        [piece("a", '{"x": 1}', index="0", id=7)], [piece("b", '{"y": {"z": 2}}', index="1", id=8)],
    ],
    "without the object in between": [
        [{"index": 0, "id": "i", "name": "a", "arguments": '{"x": 1}'}],
        [{"index": 1, "id": "j", "name": "b", "arguments": '{"y": {"z": 2}}'}],
    ],
}  # fmt: skip


@pytest.mark.parametrize("how", STREAMS)
def test_two_calls(how: str) -> None:
    """Both are whole, and so are the deltas of each."""
    result = completion()
    outputs = outputs_of([chunk(tool_calls=calls) for calls in STREAMS[how]], result)
    assert [(call.name, call.arguments) for call in result.calls] == [A, B]
    names = {output.call_id: output.name for output in outputs if isinstance(output, ToolCall)}
    pieces = {"a": "", "b": ""}
    for output in outputs:
        if isinstance(output, ToolCallDelta):
            pieces[names[output.call_id]] += output.arguments
    assert list(pieces.items()) == [A, B]


def test_two_calls_of_one_tool() -> None:
    """JSON that begins behind a whole object is another call, also without a name."""
    result = completion()
    calls = [
        piece("a", '{"x": 1}', index=0, id="i"),
        piece(None, '{"x"', index=0),
        piece(None, ": 2}", index=0),
    ]
    outputs_of([chunk(tool_calls=[call]) for call in calls], result)
    assert [(call.name, call.arguments) for call in result.calls] == [A, ("a", '{"x": 2}')]


def test_an_object_within_arguments() -> None:
    """An object that begins a piece is no other call while the first is not whole."""
    result = completion()
    calls = [piece("a", '{"l": [', index=0), piece(None, '{"n": "}"}', index=0), piece(None, "]}", index=0)]
    outputs_of([chunk(tool_calls=[call]) for call in calls], result)
    assert [call.arguments for call in result.calls] == ['{"l": [{"n": "}"}]}']


def test_a_function_call_of_old() -> None:
    """The field that `tool_calls` replaced."""
    result = completion()
    chunks = [{"name": "a", "arguments": ""}, {"arguments": '{"x"'}, {"arguments": ": 1}"}]
    outputs_of([chunk(function_call=part) for part in chunks], result)
    assert [(call.name, call.arguments) for call in result.calls] == [A]
