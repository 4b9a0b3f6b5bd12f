"""The specification of a function for a model, and the check of its arguments."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Iterator
from datetime import date
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta, Struct
from pydantic import BaseModel, Field

from bargein_server import Turn
from bargein_server.agents.tools import BadCall, NotATool, Tool, read_docstring, tool, toolset


class Place(Struct):
    """Where something is."""

    lat: float
    lon: float


@tool(name="book_flight", on_interrupt="finish", timeout_s=20, confirm=True)
async def book(  # noqa: D417 - what is not described has a type
    turn: Turn,
    flight: str,
    day: date,
    seats: Annotated[int, Meta(ge=1, le=9)] = 1,
    *,
    cabin: Literal["economy", "first"] = "economy",
    near: Place | None = None,
    tags: list[str] = [],  # noqa: B006
    anything: Any = None,
) -> dict[str, str]:
    """Book seats on a flight.

    Only flights of today.

    Args:
        flight: The flight's number,
            such as LH 123.
        day (date): When it leaves.
        cabin: Where to sit.

    Returns:
        The booking.
    """
    return {"flight": flight}


def test_the_schema_comes_from_the_signature_and_the_docstring() -> None:
    """Types, bounds, defaults and descriptions; the turn is not the model's to give."""
    specification = book.specification()
    assert specification["type"] == "function"
    function = specification["function"]
    assert (function["name"], function["description"]) == (
        "book_flight", "Book seats on a flight.\n\nOnly flights of today.",
    )  # fmt: skip
    parameters = function["parameters"]
    assert parameters["required"] == ["flight", "day"]
    assert parameters["additionalProperties"] is False
    properties = parameters["properties"]
    assert list(properties) == ["flight", "day", "seats", "cabin", "near", "tags", "anything"]
    assert properties["flight"] == {
        "type": "string", "description": "The flight's number, such as LH 123.",
    }  # fmt: skip
    assert properties["day"] == {"type": "string", "format": "date", "description": "When it leaves."}
    assert (properties["seats"]["minimum"], properties["seats"]["default"]) == (1, 1)
    assert properties["cabin"]["enum"] == ["economy", "first"]
    assert properties["near"]["anyOf"] == [{"type": "null"}, {"$ref": "#/$defs/Place"}] or properties["near"][
        "anyOf"
    ] == [{"$ref": "#/$defs/Place"}, {"type": "null"}]
    assert parameters["$defs"]["Place"]["required"] == ["lat", "lon"]


def test_arguments_come_as_the_function_wants_them() -> None:
    """Converted, with defaults that are never shared."""
    arguments = {"flight": "LH 1", "day": "2026-11-21", "near": {"lat": 1, "lon": 2}}
    checked, again = book.check(arguments), book.check(arguments)
    assert (checked["day"], checked["near"], checked["seats"]) == (date(2026, 11, 21), Place(1, 2), 1)
    checked["tags"].append("x")
    assert again["tags"] == book.check(arguments)["tags"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"seats": 0},
        {"seats": "one"},
        {"day": "soon"},
        {"near": {}},
        {"seats": 1.5},
        {"cabin": "roof"},
        {"day": None},
        {"seats": "0"},
        {"near": {"lat": None, "lon": 1}},
    ],
)
def test_what_does_not_fit_is_a_bad_call(wrong: dict[str, Any]) -> None:
    """The message says what and where."""
    legal = {"flight": "LH 1", "day": "2026-11-21"}
    with pytest.raises(BadCall, match=r"`"):
        book.check({**legal, **wrong} if wrong else {})


def test_a_tool_is_still_the_function() -> None:
    """Its author can call it, and a bare function is a tool."""

    def double(x: int) -> int:
        return 2 * x

    made = tool(double)
    assert isinstance(made, Tool)
    assert made(3) == 6
    assert (made.threaded, made.on_interrupt, made.description) == (True, "cancel", "")
    assert list(toolset([double, book])) == ["double", "book_flight"]


def test_methods_partials_and_callable_objects() -> None:
    """What is bound already is not the model's to give."""

    class Shop:
        async def order(self, what: str) -> str:
            return what

        async def __call__(self, n: int) -> int:
            return n

    assert list(Tool(Shop().order).parameters["properties"]) == ["what"]
    called = Tool(Shop(), name="shop")
    assert (list(called.parameters["properties"]), called.threaded) == (["n"], False)
    assert Tool(partial(Shop().order), name="order").threaded is False


def test_what_is_no_tool() -> None:
    """Each says why when it is made, not when it is called."""

    def star(*args: int) -> None: ...

    def keywords(**kwargs: int) -> None: ...

    def unknown(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    def generator() -> Iterator[int]:
        yield 1

    def unspeakable(x: set[object] | Iterator[int]) -> None: ...

    async def client() -> AsyncIterator[int]:
        yield 1

    for function in (star, keywords, unknown, generator, unspeakable):
        with pytest.raises(NotATool, match=function.__name__):
            tool(function)
    with pytest.raises(NotATool, match="client"):
        tool(runs_in="client", on_interrupt="finish")(client)
    with pytest.raises(NotATool, match="'book_flight' twice"):
        toolset([book, book])


@pytest.mark.parametrize(
    ("text", "description", "described"),
    [
        ("", "", {}),
        ("One line.", "One line.", {}),
        ("One.\n\nArgs:\n    a: First.\n    b: Second:\n        on two lines.", "One.",
         {"a": "First.", "b": "Second: on two lines."}),
        ("One.\n\nReturns:\n    x: no argument.", "One.", {}),
        ("Args:\n  a (int, optional): First.\n\n  b: Second.\n\nRaises:\n  c: No.", "",
         {"a": "First.", "b": "Second."}),
    ],
)  # fmt: skip
def test_docstrings(text: str, description: str, described: dict[str, str]) -> None:
    """Google's style; what stands before the first section describes the tool."""
    assert read_docstring(text) == (description, described)


class Seat(BaseModel):
    """A seat."""

    row: int
    letter: str = "A"


class Trip(BaseModel):
    """A trip."""

    seats: list[Seat]


async def travel(
    trip: Trip,
    days: Annotated[int, Field(ge=1, le=30, description="Length of the stay.")],
    city: Annotated[str, "Where to."],
    seat: Seat | None = None,
    more: list[Seat] = Field(default_factory=list, description="Other seats."),  # noqa: B008
    limit: int = Field(description="Most that it may cost."),
    rest: Seat = Seat(row=9),  # noqa: B008
) -> None:
    """Travel."""


def test_pydantic_in_a_signature() -> None:
    """Models are described with what they refer to, and come as instances; fields give texts and bounds."""
    made = Tool(travel)
    Draft202012Validator.check_schema(made.parameters)
    properties = made.parameters["properties"]
    assert properties["trip"]["properties"]["seats"]["items"] == {"$ref": "#/$defs/Seat"}
    assert made.parameters["$defs"]["Seat"]["properties"]["row"]["type"] == "integer"
    assert "$defs" not in properties["trip"]
    assert properties["days"] == {
        "type": "integer", "minimum": 1, "maximum": 30, "description": "Length of the stay.",
    }  # fmt: skip
    assert (properties["city"]["description"], properties["limit"]["description"]) == (
        "Where to.", "Most that it may cost.",
    )  # fmt: skip
    assert made.parameters["required"] == ["trip", "days", "city", "limit"]
    given = {"trip": {"seats": [{"row": "1"}]}, "days": "3", "city": "Oslo", "limit": 5, "seat": None}
    checked = made.check(given)
    assert checked["trip"] == Trip(seats=[Seat(row=1)])
    assert (checked["days"], checked["seat"], checked["more"], checked["rest"]) == (3, None, [], Seat(row=9))
    assert made.check({**given, "trip": '{"seats": []}', "more": [{"row": 2}]})["more"] == [Seat(row=2)]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"trip": {"seats": [{"letter": 5}]}}, "seats.0.row: Field required; seats.0.letter: Input should"),
        ({"trip": 5}, "Input should be a valid dictionary"),
        ({"trip": "{"}, "Invalid JSON"),
        ({"days": 31}, "Expected `int` <= 30"),
    ],
)
def test_arguments_that_do_not_fit_a_pydantic_model(wrong: dict[str, Any], error: str) -> None:
    """The model reads which field is wrong, without links and without its input."""
    given = {"trip": {"seats": []}, "days": 3, "city": "Oslo", "limit": 5, **wrong}
    with pytest.raises(BadCall) as bad:
        Tool(travel).check(given)
    assert error in str(bad.value)
    assert "http" not in str(bad.value)


def test_a_type_that_cannot_be_described() -> None:
    """The error names the tool and the types that can be."""

    async def odd(x: AbstractEventLoop) -> None: ...

    with pytest.raises(NotATool, match=r"odd\(\): .*AbstractEventLoop.* Pydantic's models"):
        Tool(odd)
