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


def split(*pieces: str, anywhere: bool = False, opened: bool = False, whole: bool = False) -> tuple[str, str]:
    """Return thoughts and text."""
    tags = ThinkTags(anywhere=anywhere, opened=opened)
    found = [part for piece in pieces for part in tags.feed(piece)] + tags.finish(whole=whole)
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


@pytest.mark.parametrize(
    ("text", "thought", "answer", "shows"),
    [
        ("Hm.\n</think>\n\nYes.", "Hm.\n", "Yes.", True),
        ("</think>Yes.", "", "Yes.", True),
        ("<think>\nHm.\n</think>Yes.", "\nHm.\n", "Yes.", False),
        ("Hm. Cut in mid-thou", "Hm. Cut in mid-thou", "", None),
    ],
)
def test_a_tag_that_the_prompt_has_opened(text: str, thought: str, answer: str, shows: bool | None) -> None:
    """The answer begins with thoughts; a template that changes its mind is noticed."""
    for size in range(1, len(text) + 2):
        tags = ThinkTags(anywhere=True, opened=True)
        found = [part for at in range(0, len(text), size) for part in tags.feed(text[at : at + size])]
        found += tags.finish()
        assert "".join(piece for is_thought, piece in found if is_thought) == thought
        assert "".join(piece for is_thought, piece in found if not is_thought) == answer
        assert tags.opened is shows


def test_a_whole_answer_without_the_closing_tag_is_text() -> None:
    """It was no thought: the template has opened nothing, so the user gets it as the answer too."""
    assert split("Yes, ", "it is.", opened=True, whole=True) == ("Yes, it is.", "Yes, it is.")


@pytest.mark.parametrize(
    ("text", "answer", "shows"),
    [
        ("Hm.\n</think>\n\nYes.", "Hm.\nYes.", True),
        ("The tag </think> ends it.", "The tag </think> ends it.", None),
        ("a</think>\n</think>b", "a</think>\nb", True),
    ],
)
def test_a_closing_tag_alone(text: str, answer: str, shows: bool | None) -> None:
    """At the begin of a line it shows that the prompt opens the tag; within one it is the answer's."""
    for size in range(1, len(text) + 2):
        tags = ThinkTags(anywhere=True)
        found = [part for at in range(0, len(text), size) for part in tags.feed(text[at : at + size])]
        assert "".join(piece for _, piece in found + tags.finish()) == answer, size
        assert tags.opened is shows


def test_a_closing_tag_after_thoughts_in_their_own_field_is_text() -> None:
    """The server takes the tags out, so this one is meant."""
    tags = ThinkTags(anywhere=True)
    tags.had_thought()
    assert tags.feed("Write\n</think>\n") == [(False, "Write\n</think>\n")]
    assert tags.opened is None


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "</", "a", " ", "\n", "think>"]), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_pieces_change_nothing(pieces: list[str], anywhere: bool, opened: bool) -> None:
    """The result depends on the text and not on its cuts, and no letter is lost."""
    thought, answer = split(*pieces, anywhere=anywhere, opened=opened)
    assert (thought, answer) == split("".join(pieces), anywhere=anywhere, opened=opened)
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


@pytest.mark.parametrize(("think_tags", "first"), [(None, "Hm.\nYes."), ("opened", "Yes.")])
async def test_a_template_that_opens_the_tag(think_tags: Any, first: str) -> None:
    """The first answer of a known model shows it, and the user may say it before."""
    says = ["Hm.\n</think>\n\nYes.", "So.\n</think>\n\nNo.", "Plain."]
    async with Upstream(Model(*([say(text)] for text in says))) as upstream:
        agent = OpenAIAgent(model="deepseek-r1", base_url=upstream.url, think_tags=think_tags)
        sessions = serve(agent)
        line = Line(sessions)
        for times in range(1, len(says) + 1):
            line.ask()
            await line.until("turn.ended", times)
        await sessions.shut_down()
    assert [end.heard.text for end in line.ends()] == [first, "No.", "Plain."]
    thoughts = [event.text for event in line.events if isinstance(event, Thought)]
    assert "So.\n" in thoughts
