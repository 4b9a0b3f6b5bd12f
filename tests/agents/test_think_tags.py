"""Thoughts that a model writes into its text between tags."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_protocol import TextDelta, Thought
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.think_tags import ThinkTags, writes_tags
from memory_client import Line, serve
from model_server import Upstream
from scripted_model import Model, say
from stub_completion import chunk, completion, outputs_of


def split(*pieces: str, anywhere: bool = False) -> tuple[str, str]:
    """Return thoughts and text."""
    tags = ThinkTags(anywhere=anywhere)
    found = [part for piece in pieces for part in tags.feed(piece)] + tags.finish()
    return (
        "".join(text for is_thought, text in found if is_thought),
        "".join(text for is_thought, text in found if not is_thought),
    )


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>Hm.</think>Yes.", "Hm.", "Yes."),
        ("\n <think>\nHm.\n</think>\n\nYes.", "\nHm.\n", "Yes."),
        ("<think></think>\n\nYes.", "", "Yes."),
        ("<think>Hm", "Hm", ""),
        ("<think>Hm</thi", "Hm</thi", ""),
        ("<think>a < b </ c", "a < b </ c", ""),
        ("<think>one</think> <think>two</think> Yes.", "onetwo", "Yes."),
        ("Yes.", "", "Yes."),
        ("<thin ice>", "", "<thin ice>"),
        ("<thin", "", "<thin"),
        ("  Yes.", "", "  Yes."),
        ("", "", ""),
        ("<think>Hm.</think>", "Hm.", ""),
        ("<think>Hm.</think>\n", "Hm.", ""),
    ],
)
def test_a_text_in_any_pieces(text: str, thought: str, answer: str) -> None:
    """Tags may be cut at any place; blanks between a thought and the answer are left out."""
    for size in range(1, len(text) + 2):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert split(*pieces) == (thought, answer), size
        assert split(*pieces, anywhere=True) == (thought, answer), size


def test_a_tag_in_the_middle() -> None:
    """It is the answer's, unless the model is known to write tags."""
    text = "Write <think>x</think> for thoughts."
    assert split(text) == ("", text)
    assert split(text, anywhere=True) == ("x", "Write for thoughts.")


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "</", "a", " ", "think>"]), max_size=12),
    st.booleans(),
)
def test_pieces_change_nothing(pieces: list[str], anywhere: bool) -> None:
    """The result depends on the text and not on its cuts, and no letter is lost."""
    assert split(*pieces, anywhere=anywhere) == split("".join(pieces), anywhere=anywhere)
    thought, answer = split(*pieces, anywhere=anywhere)
    assert (thought + answer).count("a") == "".join(pieces).count("a")


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("deepseek-r1:8b", True),
        ("Qwen/QwQ-32B", True),
        ("qwen3-4b", True),
        ("MiniMax-M2", True),
        ("gpt-5-mini", False),
    ],
)
def test_models_that_are_known(model: str, known: bool) -> None:
    """The names of families, as servers write them."""
    assert writes_tags(model) is known


def test_outputs() -> None:
    """Thoughts are thoughts, and the text of the answer is free of them."""
    chunks = [chunk(content=piece) for piece in ("<th", "ink>Hm", ".</think>", "\n\n", "Yes")]
    result = completion(think_tags="begin")
    outputs = outputs_of(chunks, result)
    assert "".join(output.text for output in outputs if isinstance(output, Thought)) == "Hm."
    assert [output for output in outputs if isinstance(output, str)] == ["Yes"]
    assert result.text == "Yes"
    assert outputs_of(chunks) == ["<th", "ink>Hm", ".</think>", "\n\n", "Yes"]


@pytest.mark.parametrize(
    ("options", "heard"),
    [({}, "Yes."), ({"think_tags": True}, "Yes."), ({"think_tags": False}, "<think>Hm.</think>Yes.")],
)
async def test_thoughts_are_not_sent_back(options: dict[str, Any], heard: str) -> None:
    """History has the answer alone; the option leaves the tags in the text."""
    model = Model([say("<think>Hm.</think>", "Yes.")], [say("ok")])
    async with Upstream(model) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url, **options))
        line = Line(sessions)
        for times in (1, 2):
            line.ask()
            await line.until("turn.ended", times)
        await sessions.shut_down()
    assert model.requests[1]["messages"][1] == {"role": "assistant", "content": heard}
    thoughts = [event.text for event in line.events if isinstance(event, Thought)]
    assert thoughts == ([] if "<think>" in heard else ["Hm."])
    assert "".join(event.text for event in line.events if isinstance(event, TextDelta)).startswith(heard)


async def test_an_answer_in_a_thought_that_is_never_closed() -> None:
    """The turn completes; the model thought until the end."""
    async with Upstream(Model([say("<think>Hm.")])) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url))
        line = Line(sessions)
        line.ask()
        await line.until("turn.ended")
        await sessions.shut_down()
        await asyncio.sleep(0)
    assert (line.ends()[0].reason, line.ends()[0].heard.text) == ("completed", "")
    assert [event.text for event in line.events if isinstance(event, Thought)] == ["Hm."]
