"""Arguments are understood as far as they can be, and nothing else is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, Literal, NamedTuple, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from pydantic import TypeAdapter, ValidationError

from bargein_server.agents.tool_arguments import BadArguments, decode_arguments
from bargein_server.agents.tools import BadCall, Tool


class Size(Enum):
    SMALL = 1


class Place(Struct):
    lat: float
    name: str = "here"


class Node(Struct):
    value: int
    next: Node | None = None


@dataclass
class Line:
    count: int = 3


class Options(TypedDict, total=False):
    fast: bool


class Point(NamedTuple):
    x: int
    y: int


def taken(kind: Any, value: Any, **default: Any) -> Any:
    """Return what a tool with one parameter of a type gets for a value."""

    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": kind}
    if default:
        function.__defaults__ = (default["default"],)
    return Tool(function, name="t").check({"value": value})["value"]


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (int, "5", 5), (int, " 5 ", 5), (int, "5.0", 5), (int, 5.0, 5), (int, True, 1), (int, "-3", -3),
        (float, "5", 5.0), (float, "5.5", 5.5), (float, 5, 5.0), (float, True, 1.0),
        (bool, "true", True), (bool, "False", False), (bool, 1, True), (bool, 0.0, False),
        (bool, "no", False), (bool, "on", True),
        (str, 5, "5"), (str, 5.5, "5.5"),
        (int | None, None, None), (int | None, "5", 5),
        (int | None, "null", None), (str | None, "null", "null"),
        (int | str, "5", "5"), (int | str, 5, 5), (int | str, 5.5, "5.5"), (bool | int, "yes", True),
        (list[int], ["1", 2.0], [1, 2]), (list[int], '["1", 2]', [1, 2]), (set[int], ["1"], {1}),
        (list[str] | None, '["a"]', ["a"]), (list[str] | str, '["a"]', '["a"]'),
        (tuple[int, str], ["1", 2], (1, "2")), (tuple[int, ...], ["1", "2"], (1, 2)),
        (dict[str, int], {"a": "1"}, {"a": 1}), (dict[str, int], '{"a": "1"}', {"a": 1}),
        (Place, {"lat": "1"}, Place(1.0)), (Place, '{"lat": 1}', Place(1.0)),
        (Place, {"lat": 1, "name": None, "more": 1}, Place(1.0)), (Place | None, {"lat": "1"}, Place(1.0)),
        (list[Place], [{"lat": "1"}], [Place(1.0)]),
        (Node, {"value": "1", "next": {"value": 2.0}}, Node(1, Node(2))),
        (Line, {"count": "4"}, Line(4)), (Line, {"count": None}, Line(3)),
        (Options, {"fast": "yes"}, {"fast": True}),
        (Point, ["1", 2.0], Point(1, 2)),
        (Literal[1, 2], "2", 2), (Literal["1", "2"], 2, "2"), (Literal[1], 1.0, 1), (Size, "1", Size.SMALL),
        (date, "2026-11-30", date(2026, 11, 30)),
        (Any, "5", "5"), (Any, {"a": [None]}, {"a": [None]}),
    ],
)  # fmt: skip
def test_a_value_takes_the_type_of_its_parameter(kind: Any, value: Any, result: Any) -> None:
    """As Pydantic's lax mode does, and for some forms that only models write."""
    got = taken(kind, value)
    assert (got, type(got)) == (result, type(result))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "five"), (int, 5.5), (int, "5.5"), (int, None), (int, [5]), (int, "inf"), (int, "nan"),
        (float, "x"),
        (bool, 2), (bool, "maybe"), (str, True), (str, None), (str, ["a"]),
        (list[int], "1"), (list[int], "[x"),
        (list[int], '{"a": 1}'), (tuple[int, str], [1]), (tuple[int, str], [1, "a", 2]),
        (Place, {}), (Place, "[]"), (Literal["a"], "b"), (Node, {"value": 1, "next": 2}), (int, "9" * 5000),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_a_bad_call(kind: Any, value: Any) -> None:
    """The message is about the value that the model wrote."""
    with pytest.raises(BadCall, match=r"^(Expected|Object|Invalid|Array|Input)"):
        taken(kind, value)


@pytest.mark.parametrize(
    ("kind", "default"), [(int, 3), (list[int], [1]), (Place, Place(0.0)), (bool, False)]
)
def test_null_for_an_optional_argument_is_absent(kind: Any, default: Any) -> None:
    """Models write it because strict schemas make them name every argument."""
    assert taken(kind, None, default=default) == default
    assert taken(kind | None, None, default=default) is None


def test_unknown_arguments_are_left_out() -> None:
    """Also one by the name of the turn."""
    made = Tool(lambda a: a, name="t")
    assert made.check({"a": 1, "b": 2, "turn": 3}) == {"a": 1}
    assert made.unknown({"a": 1, "b": 2, "turn": 3}) == ["b", "turn"]


SCALARS = st.sampled_from(
    ["5", "5.0", "5.5", "true", "TRUE", "off", "x", "", 0, 1, 2, 5.0, 5.5, True, False, None, -1, 1e300]
)


@given(st.sampled_from([int, float, bool]), SCALARS)
def test_all_that_pydantic_takes_is_taken_with_the_same_result(kind: type, value: Any) -> None:
    """Its lax mode is the reference for numbers and booleans."""
    try:
        expected: Any = TypeAdapter(kind).validate_python(value)
    except ValidationError:
        with pytest.raises(BadCall):
            taken(kind, value)
    else:
        assert taken(kind, value) == expected


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}), ("null", {}), ('"null"', {}), ('{"a": 1}', {"a": 1}), ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}), ('{"a": "\\ud83d"}', {"a": "?"}),
        ('{"\ud83d": "\ude00"}', {"?": "?"}),
    ],
)  # fmt: skip
def test_arguments_are_decoded(text: str, arguments: dict[str, Any]) -> None:
    """In the forms in which servers send them."""
    assert decode_arguments(text) == arguments


@pytest.mark.parametrize("text", ["{", "[1]", "5", '"text"', "[" * 100_000, '{"a":' * 5000])
def test_text_that_is_no_object_is_refused(text: str) -> None:
    """With a message for the model."""
    with pytest.raises(BadArguments, match="the arguments are not"):
        decode_arguments(text)
