"""Long document: an outline, then sections with progress, to be resumed.

    bargein-server bargein_server.examples.document:agent

The document has no state of its own. "Go on" reads from the history what the user has received: the last
complete section, and how far the next one came. So it is right whatever cut the document, also at "stop" in a
section, and nothing that was written but never shown counts as read.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from bargein_server.agent import Message, Output, Turn

from .model import Model, with_model

SECTIONS = 6
END = "*End of the document.*"

planner: Model = Model(
    f"You plan documents. Answer with a list of {SECTIONS} section titles at most, one a line, without "
    "numbers, without any other word."
)
writer: Model = Model("You write one section of a document: two paragraphs of plain text, without headings.")

_GO_ON = re.compile(r"\W*(please\s+)?(go on|continue|resume|carry on)\b", re.IGNORECASE)
_BULLET = re.compile(r"^\W*(\d+[.)])?\W*|[\s*_#]+$")
_SENTENCES = re.compile(r".*[.!?][\"')]?(?=\s|$)", re.DOTALL)


class Draft(NamedTuple):
    """A document as far as it was received.

    Args:
        topic: What it is about.
        titles: Titles of all sections; empty before the outline is complete.
        section: Number of the section to write next, from 0.
        text: Received beginning of that section.
        headed: Whether its heading was received.
    """

    topic: str
    titles: list[str]
    section: int = 0
    text: str = ""
    headed: bool = False


def heading(number: int, title: str) -> str:
    """Return the heading of a section, numbered from 0."""
    return f"\n\n## {number + 1}. {title}\n\n"


def received(messages: list[Message]) -> Draft | None:
    """Return the last document in a history, None if there is none.

    It consists of the answers to the input that asked for it, and to each "go on" after that.
    """
    topic, text = None, ""
    for message in messages:
        content = str(message.get("content") or "")
        if message["role"] == "user" and not _GO_ON.match(content):
            topic, text = content, ""
        elif message["role"] == "assistant":
            text += content
    if topic is None:
        return None
    headings = list(re.finditer(r"^## (\d+)\. .*\n\n", text, re.MULTILINE))
    if not headings:
        return Draft(topic, [])
    titles = re.findall(r"^\d+\. (.*)$", text[: headings[0].start()], re.MULTILINE)
    if END in text:
        return Draft(topic, titles, len(titles))
    section = int(headings[-1][1])
    begun, *next_heading = re.split(r"\n\n##?(?!#)", text[headings[-1].end() :], maxsplit=1)
    return (
        Draft(topic, titles, section)
        if next_heading
        else Draft(topic, titles, section - 1, begun, headed=True)
    )


@with_model
async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
    """Write a document about the input, or go on with the last one."""
    draft: Draft | None = Draft(turn.text, [])
    if _GO_ON.match(turn.text):
        draft = received(turn.history.messages(mark=None)[:-1])
    if draft is None:
        yield "There is nothing to go on with. Tell me what to write about."
        return
    titles = draft.titles
    if titles and draft.section >= len(titles):
        yield "The document is complete."
        return
    if not titles:
        yield turn.status("Planning", "eye")
        plan = await planner.text(turn, f"Sections of a document about: {draft.topic}")
        titles = [title for line in plan.splitlines() if (title := _BULLET.sub("", line)[:80])][:SECTIONS]
        titles = titles or ["Overview"]
        yield "\n\n# Contents\n\n" + "\n".join(f"{n}. {title}" for n, title in enumerate(titles, 1))
        draft = Draft(draft.topic, titles)
    yield turn.data("outline", titles)
    for number in range(draft.section, len(titles)):
        yield turn.progress(number, len(titles), "sections", titles[number])
        yield turn.status(f"Writing {number + 1} of {len(titles)}: {titles[number]}", "pencil")
        before = draft.text if number == draft.section else ""
        if number > draft.section or not draft.headed:
            yield heading(number, titles[number])
        async with aclosing(_section(turn, draft, number, before)) as outputs:
            async for output in outputs:
                yield output
    yield turn.progress(len(titles), len(titles), "sections")
    yield f"\n\n{END}"


async def _section(turn: Turn, draft: Draft, number: int, before: str) -> AsyncGenerator[Output, None]:
    """Write a section, or the rest of it after the received part."""
    question = (
        f"The document is about: {draft.topic}\nIts sections: {'; '.join(draft.titles)}\n"
        f"Write section {number + 1}: {draft.titles[number]}"
    )
    whole = found[0] if (found := _SENTENCES.match(before)) else ""
    if whole:
        question += f"\n\nThis part of the section is there already. Go on after its last word:\n\n{whole}"
    if before.strip():
        yield " " if whole == before.rstrip() else " …\n\n"  # the sentence that was cut comes again
    async with aclosing(writer.aside(turn, [{"role": "user", "content": question}])) as outputs:
        async for output in outputs:
            yield output
