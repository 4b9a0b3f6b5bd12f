"""A long document that is continued from what was received."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_server.examples.document import END, Draft, agent, heading, received
from example_client import Talk, talking
from model_server import Upstream
from scripted_model import say

TITLES = ["Tides", "Currents", "Storms"]
PLAN = say("1. Tides\n", "2. **Currents**\n", "- Storms\n")
OUTLINE = "\n\n# Contents\n\n1. Tides\n2. Currents\n3. Storms"


def document(*sections: str) -> str:
    """Return the text of a document whose last section is the last of these."""
    return OUTLINE + "".join(heading(n, TITLES[n]) + text for n, text in enumerate(sections))


def history(text: str, *more: str) -> list[Any]:
    """Return a history with a document, and with answers to "go on"."""
    messages = [{"role": "user", "content": "the sea"}, {"role": "assistant", "content": text}]
    for part in more:
        messages += [{"role": "user", "content": "Go on"}, {"role": "assistant", "content": part}]
    return messages


async def begun(talk: Talk, *sections: str) -> None:
    """Ask for a document; let the model plan it and write so many sections."""
    await talk.ask("the sea")
    await talk.answer(PLAN)
    for text in sections:
        await talk.answer(say(text))


async def test_a_whole_document(upstream: Upstream) -> None:
    """Outline, sections in order, progress before each and at the end."""
    async with talking(agent, upstream) as talk:
        await begun(talk, "They rise.", "They flow.", "They blow.")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == document("They rise.", "They flow.", "They blow.") + f"\n\n{END}"
        assert talk.data("outline") == [TITLES]
        assert [(p["value"], p["total"]) for p in talk.of("progress")] == [(n, 3) for n in range(4)]
        await talk.ask("go on")
        await talk.ended()
        assert talk.said() == "The document is complete."


async def test_an_interrupt_in_a_section_and_go_on(upstream: Upstream) -> None:
    """The model is closed; the next turn writes the rest of the section, from the last whole sentence."""
    async with talking(agent, upstream) as talk:
        await begun(talk, "They rise.")
        call = await talk.call()
        call.open()
        call.text("They flow. They turn aro")
        await talk.text("turn aro")
        await talk.interrupt()
        assert await call.gone() == "eof"
        await talk.ask("Please go on")
        [question] = [m["content"] for m in await talk.answer(say("They turn back.")) if m["role"] == "user"]
        assert "Write section 2: Currents" in question
        assert question.endswith("Go on after its last word:\n\nThey flow.")
        [question] = [m["content"] for m in await talk.answer(say("They blow.")) if m["role"] == "user"]
        assert "Write section 3: Storms" in question
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == f" …\n\nThey turn back.{heading(2, 'Storms')}They blow.\n\n{END}"


async def test_what_was_sent_and_not_received_is_written_again(upstream: Upstream) -> None:
    """The client has shown the first section and four characters more: the second one begins anew."""
    shown = document("They rise.")
    async with talking(agent, upstream) as talk:
        await begun(talk, "They rise.")
        call = await talk.call()
        call.open()
        call.text("They flow.")
        await talk.text("They flow.")
        await talk.interrupt(played={"chars": len(shown) + 4})
        await talk.ask("continue")
        [question] = [m["content"] for m in await talk.answer(say("They flow.")) if m["role"] == "user"]
        assert question.endswith("Write section 2: Currents")
        await talk.text("They flow.")
        assert talk.said() == f"{heading(1, 'Currents')}They flow."
        await talk.interrupt()


async def test_an_interrupt_in_the_plan(upstream: Upstream) -> None:
    """Nothing was received: "go on" plans the same document again."""
    async with talking(agent, upstream) as talk:
        await talk.ask("the sea")
        call = await talk.call()
        call.open()
        call.text("1. Ti")
        await talk.client.until("status")
        await talk.interrupt()
        assert await call.gone() == "eof"
        await talk.ask("go on")
        messages = await talk.answer(PLAN)
        assert messages[-1]["content"] == "Sections of a document about: the sea"
        await talk.interrupt()


async def test_nothing_to_go_on_with(upstream: Upstream) -> None:
    """The answer says so."""
    async with talking(agent, upstream) as talk:
        await talk.ask("go on")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said().startswith("There is nothing to go on with")


WHOLE = document("They rise.\n\nThey fall.", "They flow.", "They blow.") + f"\n\n{END}"


@pytest.mark.parametrize("cut", range(len(WHOLE) + 1))
def test_a_cut_anywhere(cut: int) -> None:
    """The section that goes on is the one of the last whole heading, with exactly its received text."""
    draft = received(history(WHOLE[:cut]))
    assert draft is not None
    assert draft.topic == "the sea"
    texts = ["They rise.\n\nThey fall.", "They flow.", "They blow."]
    heads = [len(document(*texts[:n], "")) for n in range(3)]
    begun = [n for n in range(3) if heads[n] <= cut]
    if cut == len(WHOLE):
        expected = (TITLES, 3, "", False)
    elif not begun:
        expected = ([], 0, "", False)
    elif begun[-1] < 2 and cut >= heads[begun[-1]] + len(texts[begun[-1]]) + len("\n\n#"):
        expected = (TITLES, begun[-1] + 1, "", False)
    else:
        expected = (TITLES, begun[-1], WHOLE[heads[begun[-1]] : cut], True)
    assert draft == ("the sea", *expected)


def test_a_document_in_several_answers() -> None:
    """A heading that was cut, and comes again in the next answer, counts once."""
    first = document("They rise.") + "\n\n## 2. Cur"
    assert received(history(first)) == Draft("the sea", TITLES, 1)
    second = f"{heading(1, 'Currents')}They flow.{heading(2, 'Storms')}They"
    assert received(history(first, second)) == Draft("the sea", TITLES, 2, "They", headed=True)
    assert received(history(first, second, f" blow.\n\n{END}")) == Draft("the sea", TITLES, 3)
