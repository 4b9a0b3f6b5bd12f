"""Halves of characters, and fields that several deltas make up."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_protocol import Thought, ToolCallDelta, ToolRunning
from bargein_server.agents.model_fields import SurrogateJoiner, cleaned, merged
from scripted_model import call, say
from stub_completion import chunk, completion, outputs_of
from tool_conversation import Serve


def joined(*pieces: str) -> str:
    joiner = SurrogateJoiner()
    return "".join(joiner.feed(piece) for piece in pieces) + joiner.finish()


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("a\ud83d", "\ude00b"), "a😀b"),
        (("\ud83d", "", "\ude00"), "😀"),
        (("\ud83d\ude00",), "😀"),
        (("\ud83d",), "\ufffd"),
        (("a", "\ude00"), "a\ufffd"),
        (("\ud83d", "a"), "\ufffda"),
        (("\ud83d", "\ud83d", "\ude00"), "\ufffd😀"),
        (("a😀b", ""), "a😀b"),
    ],
)
def test_halves(pieces: tuple[str, ...], text: str) -> None:
    """Two halves are one character, also across deltas; a lone one is replaced."""
    assert joined(*pieces) == text


@given(st.text(), st.lists(st.integers(0, 40), max_size=5))
def test_a_text_cut_within_its_characters(text: str, cuts: list[int]) -> None:
    """UTF-16 may be cut at every unit."""
    units = text.encode("utf-16-le")
    bounds = [0, *sorted(min(2 * cut, len(units)) for cut in cuts), len(units)]
    pieces = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(bounds)]
    assert joined(*pieces) == text


@given(st.lists(st.text(st.characters(), max_size=3), max_size=5))
def test_any_text_can_be_encoded(pieces: list[str]) -> None:
    """Also one of lone halves."""
    joined(*pieces).encode()
    assert cleaned({"a": pieces}) == json.loads(json.dumps(cleaned({"a": pieces})))


def test_halves_in_text_thoughts_and_arguments() -> None:
    """Each stream of a completion joins its own halves."""
    result = completion()
    function = {"name": "add", "arguments": '{"x": "\ud83d'}
    outputs = outputs_of(
        [
            chunk(
                content="\ud83d", reasoning_content="\ud83d", tool_calls=[{"index": 0, "function": function}]
            ),
            chunk(content="\ude00", reasoning_content="\ude01"),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": '\ude02"}'}}]),
        ],
        result,
    )
    assert [output for output in outputs if isinstance(output, str)] == ["😀"]
    assert [output for output in outputs if isinstance(output, Thought)] == [Thought(text="😁")]
    pieces = [output.arguments for output in outputs if isinstance(output, ToolCallDelta)]
    assert "".join(pieces) == result.calls[0].arguments == '{"x": "😂"}'


@pytest.mark.parametrize(
    "raw", ['{"text": "a\\ud83d", "more": [{"\\ude00": "\\ude00"}]}', '{"text": "a\ud83d"}']
)
async def test_a_tool_gets_clean_arguments(converse: Serve, raw: str) -> None:
    """Lone halves are replaced, nested ones too, and the turn goes on after the tool."""
    got: list[str] = []

    async def note(text: str, more: list[dict[str, str]] | None = None) -> str:
        """Note."""
        got.append(text + json.dumps(more, ensure_ascii=False))
        return text

    talk = converse([call("note", raw=raw)], [say("Done")], tools=[note])
    await talk.ask()
    assert (talk.end.status, talk.end.reason) == ("completed", "completed")
    assert [text[:2] for text in got] == ["a\ufffd"]
    assert (talk.result.status, talk.result.output) == ("completed", "a\ufffd")
    [running] = talk.of(ToolRunning)
    assert json.dumps(running.arguments, ensure_ascii=False).encode()
    sent = talk.model.requests[1]["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent)["text"] == "a\ufffd"


def test_fields_of_several_deltas() -> None:
    """Texts continue, objects merge, items of a list are told apart by their index."""
    assert merged(None, "a") == "a"
    assert merged("a", "b") == "ab"
    assert merged("a", None) == "a"
    assert merged({"t": "a", "type": "x"}, {"t": "b", "type": "x", "n": 1}) == {
        "t": "ab",
        "type": "x",
        "n": 1,
    }
    details = merged([{"index": 0, "text": "a"}], [{"index": 0, "text": "b"}, {"index": 1, "text": "c"}])
    assert details == [{"index": 0, "text": "ab"}, {"index": 1, "text": "c"}]
    assert merged(["a"], ["b"]) == ["a", "b"]
