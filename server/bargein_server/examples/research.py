"""Research: readers search sources in parallel; their findings are merged.

    bargein-server bargein_server.examples.research:agent

Ask something about Python. Each reader has a lane of its own: one searches the language reference, one the
standard library, one the installed packages, and, if `RESEARCH_FOLDER` is set, one your folder of text files.
Each writes down its findings by a model call. A reader that fails is left out, and the answer says so. An
interrupt ends all of them in one step: their searches, and their model calls.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from importlib.metadata import distributions
from math import log
from pathlib import Path
from typing import NamedTuple

from bargein_server.agent import Agent, Output, Turn
from bargein_server.agents.parallel import Parallel
from bargein_server.streams import Push, from_callbacks

from .library import library
from .model import Model, with_model

PASSAGES = 4
PASSAGE_CHARS = 700
PASSAGES_PER_PUSH = 2000
MAX_FILE_BYTES = 1_000_000

reader: Model = Model(
    "You answer from the given passages only, in two or three sentences, with the numbers of the passages, "
    "such as [1]. If they do not answer the question, say so in one sentence."
)
lead: Model = Model(
    "You merge the findings of several readers into one short answer, and name each fact's reader."
)

_WORD = re.compile(r"[^\W_]{3,}")
_COMMON = {
    "and", "are", "but", "can", "does", "for", "from", "has", "have", "how", "not", "that", "the", "this",
    "what", "when", "which", "who", "why", "with", "you",
}  # fmt: skip


class Passage(NamedTuple):
    """A piece of a source, with its title."""

    title: str
    text: str


def language_reference() -> Iterator[Passage]:
    """Yield the topics of Python's language reference."""
    from pydoc_data.topics import topics

    yield from (Passage(f"topic {name}", text) for name, text in topics.items())


def standard_library() -> Iterator[Passage]:
    """Yield the descriptions of the standard library's names."""
    yield from (Passage(entry.name, entry.text) for entry in library().entries if entry.text)


def packages() -> Iterator[Passage]:
    """Yield the descriptions of installed packages, by paragraphs."""
    for package in distributions():
        about = package.metadata
        name, summary = about["Name"], (about.get_all("Summary") or [""])[0]
        description = (package.read_text("METADATA") or "").partition("\n\n")[2]
        yield Passage(f"package {name}", f"{name}: {summary}")
        yield from (Passage(f"package {name}", part) for part in description.split("\n\n"))


def folder() -> Iterator[Passage]:
    """Yield the paragraphs of the text files in `RESEARCH_FOLDER`."""
    top = Path(os.environ["RESEARCH_FOLDER"])
    if not top.is_dir():
        raise FileNotFoundError("RESEARCH_FOLDER is no folder")
    for file in sorted((*top.rglob("*.md"), *top.rglob("*.txt"))):
        if file.is_file() and file.stat().st_size < MAX_FILE_BYTES:
            text = file.read_text("utf-8", "replace")
            yield from (Passage(str(file.relative_to(top)), part) for part in text.split("\n\n"))


def search(source: Callable[[], Iterable[Passage]], question: str, push: Push[int]) -> list[Passage]:
    """Return a source's best passages by TF-IDF; push how many were read.

    It runs in a thread. After an interrupt the next push raises, which ends it.
    """
    wanted = set(_WORD.findall(question.lower())) - _COMMON
    found: list[tuple[Passage, Counter[str], int]] = []
    count = 0
    seen: Counter[str] = Counter()
    for count, passage in enumerate(source(), 1):
        words = _WORD.findall(f"{passage.title} {passage.text}".lower())
        hits = Counter(word for word in words if word in wanted)
        seen.update(hits.keys())
        if hits:
            found.append((passage, hits, len(words)))
        if count % PASSAGES_PER_PUSH == 0:
            push(count)
    push(count)

    def rank(item: tuple[Passage, Counter[str], int]) -> float:
        _, hits, size = item
        return sum(log(1 + count / seen[word]) * n / (n + 0.5 + size / 200) for word, n in hits.items())

    return [passage for passage, *_ in sorted(found, key=rank, reverse=True)[:PASSAGES]]


def reading(source: Callable[[], Iterable[Passage]]) -> Agent:
    """Return an agent that answers from one source."""

    async def read(turn: Turn) -> AsyncGenerator[Output, None]:
        yield turn.status("Searching", "search")
        passages: list[Passage] = []

        async def produce(push: Push[int]) -> None:
            passages.extend(await turn.tools.run_in_thread(lambda: search(source, turn.text, push)))

        async with aclosing(from_callbacks(produce)) as counts:
            async for count in counts:
                yield turn.progress(count, unit="passages", label="read")
        yield turn.data("sources", [passage.title for passage in passages])
        if not passages:
            yield "Nothing found."
            return
        titles = dict.fromkeys(passage.title for passage in passages)
        yield turn.status(f"Reading {', '.join(titles)}"[:200], "eye")
        texts = [f"{passage.title}: {passage.text.strip()[:PASSAGE_CHARS]}" for passage in passages]
        numbered = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
        question = f"Question: {turn.text}\n\nPassages:\n\n{numbered}"
        async with aclosing(reader.aside(turn, [{"role": "user", "content": question}])) as outputs:
            async for output in outputs:
                yield output

    return read


def readers() -> dict[str, Agent]:
    """Return the readers by the names of their lanes."""
    sources = {"reference": language_reference, "library": standard_library, "packages": packages}
    if os.environ.get("RESEARCH_FOLDER"):
        sources["folder"] = folder
    return {name: reading(source) for name, source in sources.items()}


@with_model
async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
    """Let all readers search, and merge their findings."""
    yield turn.status("Asking the readers", "team")
    team = Parallel(turn, readers(), on_error="skip")
    async with aclosing(team.outputs()) as outputs:
        async for output in outputs:
            yield output
    findings = {name: branch.text for name, branch in team.branches.items() if branch.done}
    failed = [name for name, branch in team.branches.items() if not branch.done]
    if failed:
        yield f"*Left out, because it failed: {', '.join(failed)}.*\n\n"
    if not findings:
        yield "There is nothing to merge."
        return
    yield turn.status("Merging", "merge")
    notes = "\n\n".join(f"{name}: {text}" for name, text in findings.items())
    question = [*turn.history.messages(max_tokens=1000)]
    question[-1] = {"role": "user", "content": f"{turn.text}\n\nFindings of the readers:\n\n{notes}"}
    async with aclosing(lead.aside(turn, question)) as outputs:
        async for output in outputs:
            yield output
