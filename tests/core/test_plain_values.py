"""Objects of authors become values that the protocol holds, and none of them is lost."""

from __future__ import annotations

import sys
from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from bargein_protocol import (
    AgentOutput,
    AudioDelta,
    CallId,
    Data,
    Progress,
    Status,
    TextDelta,
    Thought,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolResult,
    ToolRunning,
)
from bargein_server.core.author_code import MAX_OUTPUT_BYTES, BadOutput, validated_output
from bargein_server.core.plain_values import CIRCULAR, TOO_DEEP, plain_text, plain_value
from core_driver import Talk


class Text(str):
    """Text as LangChain has it: callable, and with a `__str__` of its own."""

    __slots__ = ()

    def __call__(self) -> str:
        return "called"

    def __str__(self) -> str:
        return "not the text"


class Color(str, Enum):  # noqa: UP042 - the older kind
    RED = "red"


class Mode(StrEnum):
    FAST = "fast"


class Level(IntEnum):
    HIGH = 3


class Booking(pydantic.BaseModel):
    number: int
    day: date
    name: Any = "x"


@dataclass
class Line:
    of: Any
    _hidden: int = 0
    tags: list[Any] = field(default_factory=list)


@attrs.define
class Seat:
    row: int
    of: Any = None


class Place(Struct, tag="place", rename="camel"):
    of_what: Any


class Json:
    def __json__(self) -> Any:
        return {"json": Text("yes")}


class Array:
    def tolist(self) -> Any:
        return [1, 2]


class Odd:
    def __str__(self) -> str:
        return "an odd one"


class Hostile:
    def model_dump(self, **_: Any) -> Any:
        raise ValueError("no dump")

    def __json__(self) -> Any:
        sys.exit(1)

    def __str__(self) -> str:
        raise KeyboardInterrupt


class Endless:
    def __json__(self) -> Any:
        return Endless()


Pair = namedtuple("Pair", "a b")

FORMS: list[tuple[Any, Any]] = [
    (Text("a"), "a"),
    (Color.RED, "red"),
    (Level.HIGH, 3),
    (Booking(number=1, day=date(2026, 11, 30)), {"number": 1, "day": "2026-11-30", "name": "x"}),
    ([Booking(number=1, day=date(2026, 11, 30))], [{"number": 1, "day": "2026-11-30", "name": "x"}]),
    (Line(Odd(), tags=[Text("t")]), {"of": "an odd one", "tags": ["t"]}),
    (Seat(1, Json()), {"row": 1, "of": {"json": "yes"}}),
    (Place(Seat(2)), {"type": "place", "ofWhat": {"row": 2, "of": None}}),
    (Json(), {"json": "yes"}),
    (Array(), [1, 2]),
    ({Text("k"): 1, Color.RED: 2, Level.HIGH: 3, (1, 2): 4, None: 5, True: 6, 1.5: 7},
     {"k": 1, "red": 2, "3": 3, "(1, 2)": 4, "null": 5, "true": 6, "1.5": 7}),
    (OrderedDict(a={1}), {"a": [1]}),
    (UserDict(a=1), {"a": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (deque([1, 2]), [1, 2]),
    ({"a": 1}.values(), [1]),
    (range(2), [0, 1]),
    (Pair(1, Odd()), [1, "an odd one"]),
    (frozenset({Odd()}), ["an odd one"]),
    (b"\xff", "/w=="),
    (memoryview(b"\xff"), "/w=="),
    (Decimal("1.50"), "1.50"),
    (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
    ({"\ud83d": ["\ude00", "\ud83d\ude00"]}, {"?": ["?", "\U0001f600"]}),
    (Odd(), "an odd one"),
    (Hostile(), "<Hostile>"),
    ([Hostile(), {"x": Odd()}], ["<Hostile>", {"x": "an odd one"}]),
    (Booking(number=1, day=date(2026, 11, 30), name=Odd()), None),
    (Odd, None),
]  # fmt: skip


def result(output: Any, **fields: Any) -> ToolResult:
    return ToolResult(call_id=CallId("c"), output=output, status="completed", **fields)


@pytest.mark.parametrize(("value", "plain"), FORMS)
def test_every_object_has_a_form(value: Any, plain: Any) -> None:
    """A result that exists is never lost, whatever it is."""
    copy, _ = validated_output(result(value))
    assert isinstance(copy, ToolResult)
    if plain is None:
        assert isinstance(copy.output, (str, dict))
        assert copy.output
    else:
        assert copy.output == plain


def test_nothing_circular_deep_or_huge_is_refused_as_a_result() -> None:
    """It is cut with a mark, within the bounds of the protocol."""
    circular: dict[str, Any] = {"a": 1}
    circular["self"] = [circular]
    assert validated_output(result(circular))[0].output == {"a": 1, "self": [CIRCULAR]}  # type: ignore[union-attr]
    line = Line(None)
    line.of = line
    assert plain_value(line, cut=True) == {"of": CIRCULAR, "tags": []}
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert TOO_DEEP in repr(validated_output(result(deep))[0])
    assert TOO_DEEP in repr(validated_output(result(Endless()))[0])
    many, size = validated_output(result(list(range(100_000))))
    assert many.output[-1] == f"[{100_000 - (65_536 - 256)} more]"  # type: ignore[union-attr]
    assert size < MAX_OUTPUT_BYTES
    laughs: Any = ["ha"] * 10
    for _ in range(12):
        laughs = [laughs] * 10
    assert validated_output(result(laughs))[1] < MAX_OUTPUT_BYTES


@pytest.mark.parametrize(
    "value", ["x" * 3_000_000, ["é" * 3_000_000], {"k": "\x00" * 900_000}, b"x" * 2_000_000]
)
def test_a_result_that_is_too_long_is_shortened(value: Any) -> None:
    """The beginning, and how much there was."""
    copy, size = validated_output(result(value))
    assert isinstance(copy, ToolResult)
    assert copy.output[:1] in '"x[{e'
    assert "… [the first 100000 of " in copy.output
    assert size <= MAX_OUTPUT_BYTES


def test_the_other_fields_of_a_result_lose_it_neither() -> None:
    """An error that is an exception or too long, and a duration with a fraction."""
    copy, _ = validated_output(result(None, error=ValueError("no"), duration_ms=1.7))
    assert (copy.error, copy.duration_ms) == ("no", 1)  # type: ignore[union-attr]
    copy, _ = validated_output(result(None, error="x" * 5000))
    assert isinstance(copy, ToolResult)
    assert len(copy.error or "") == 4096


@pytest.mark.parametrize(
    "output",
    [
        TextDelta(text=Text("t"), source=Text("s")),
        Thought(text=Text("t")),
        Status(message=Text("m"), icon=Text("i")),
        AudioDelta(audio=b"1", start_ms=0, duration_ms=1, text=Text("t")),
        ToolCall(call_id=CallId(Text("c")), name=Text("n")),
        ToolCallDelta(call_id=CallId(Text("c")), arguments=Text("{}")),
        ToolConfirm(call_id=CallId(Text("c")), arguments={Text("a"): Text("b")}),
        ToolRunning(call_id=CallId(Text("c")), arguments={Text("a"): [Text("b")]}),
        ToolResult(call_id=CallId(Text("c")), output=Text("o"), error=Text("e"), status="failed"),
        Progress(value=1, unit=Text("u"), label=Text("l")),
        Data(name=Text("n"), value={Text("k"): Text("v")}),
    ],
)
def test_a_subclass_of_str_is_text_in_every_field(output: AgentOutput) -> None:
    """Its characters, not what its `__str__` returns; in exact types."""
    copy, _ = validated_output(output)
    for name in output.__struct_fields__:
        assert getattr(copy, name) == getattr(output, name)
        assert type(getattr(copy, name)) in (str, bytes, int, float, dict, type(None))


@pytest.mark.parametrize("text", [Text("hello"), Color.RED, Mode.FAST])
def test_a_subclass_of_str_is_a_piece_of_the_answer(text: str) -> None:
    """It is yielded like any text."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, text, Text(""), Text("x" * 9000))
    talk.finish(turn)
    assert talk.end_of(turn).heard.text == str.__str__(text) + "x" * 9000
    assert [len(event.text) for event in talk.of(TextDelta)] == [len(text), 8192, 808]


def test_data_of_the_application_keeps_its_bounds() -> None:
    """Models pass; an object without a form, or one beyond the bounds, is a mistake of its author."""
    copy, _ = validated_output(Data(name="d", value=Booking(number=1, day=date(2026, 11, 30))))
    assert copy == Data(name="d", value={"number": 1, "day": "2026-11-30", "name": "x"})
    with pytest.raises(BadOutput, match="objects of type Odd have no form in JSON"):
        validated_output(Data(name="d", value=[Odd()]))


@given(st.text(st.characters(codec=None)))
def test_plain_text_is_text_for_utf_8(text: str) -> None:
    """Text without surrogates is unchanged, and other text loses only halves."""
    plain = plain_text(text)
    assert type(plain) is str
    plain.encode()
    halves = any("\ud800" <= char <= "\udfff" for char in text)
    assert halves or plain == text
