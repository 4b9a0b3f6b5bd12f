"""Readers that search at the same time, and a merge of their findings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bargein_server.examples import research
from bargein_server.examples.research import Passage, agent, search
from example_client import Talk, talking
from model_server import Call, Upstream
from scripted_model import say
from waiting import until

QUESTION = "How deep is the sea?"


def sea() -> Iterator[Passage]:
    """Yield a source that answers."""
    yield Passage("atlas", "The sea is deep: eleven kilometres.")
    yield Passage("poem", "The land is green.")


def reef() -> Iterator[Passage]:
    """Yield another one."""
    yield Passage("reef", "A reef lies in the shallow sea.")


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three small sources."""
    monkeypatch.delenv("RESEARCH_FOLDER", raising=False)
    for name, source in (("language_reference", sea), ("standard_library", reef), ("packages", sea)):
        monkeypatch.setattr(research, name, source)


async def readers(talk: Talk, count: int = 3) -> list[Call]:
    """Ask; return the calls of the readers, in the order of their arrival."""
    await talk.ask(QUESTION)
    return [await talk.call() for _ in range(count)]


@pytest.mark.usefixtures("sources")
async def test_readers_and_their_merge(upstream: Upstream) -> None:
    """Each writes in its lane, from the passages that it found; the merge gets all of it."""
    async with talking(agent, upstream) as talk:
        calls = await readers(talk)
        for call in calls:
            question = call.body["messages"][-1]["content"]
            assert question.startswith(f"Question: {QUESTION}\n\nPassages:\n\n[1] ")
            assert "poem" not in question
            call.answer("Eleven ", "kilometres [1].")
        messages = await talk.answer(say("All say eleven."))
        assert messages[-1]["content"].count("Eleven kilometres [1].") == 3
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == "All say eleven."
        assert {name: talk.said(name) for name in ("reference", "library", "packages")} == dict.fromkeys(
            ("reference", "library", "packages"), "Eleven kilometres [1]."
        )
        assert sorted(json.dumps(value) for value in talk.data("sources")) == [
            '["atlas"]',
            '["atlas"]',
            '["reef"]',
        ]


@pytest.mark.usefixtures("sources")
async def test_a_reader_that_fails(upstream: Upstream) -> None:
    """It is left out, the answer says so, and the merge does not get it."""
    async with talking(agent, upstream) as talk:
        for call in await readers(talk):
            if "reef" in call.body["messages"][-1]["content"]:
                call.reply(400, {"error": {"message": "no"}})
            else:
                call.answer("Eleven kilometres [1].")
        messages = await talk.answer(say("Eleven."))
        assert "library" not in messages[-1]["content"]
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == "*Left out, because it failed: library.*\n\nEleven."


@pytest.mark.usefixtures("sources")
async def test_all_readers_fail(upstream: Upstream) -> None:
    """There is no merge."""
    async with talking(agent, upstream) as talk:
        for call in await readers(talk):
            call.reply(400, {"error": {"message": "no"}})
        assert (await talk.ended())["status"] == "completed"
        assert talk.said().endswith("There is nothing to merge.")


@pytest.mark.usefixtures("sources")
async def test_an_interrupt_in_the_lanes(upstream: Upstream) -> None:
    """One done, one in its answer, one without an answer yet: all are closed, and nothing is merged."""
    async with talking(agent, upstream) as talk:
        done, speaking, silent = await readers(talk)
        done.answer("Eleven.")
        speaking.open()
        speaking.text("I beli")
        while "I beli" not in "".join(frame["text"] for frame in talk.of("text.delta")):
            await talk.client.receive()
        await talk.interrupt()
        assert [await speaking.gone(), await silent.gone()] == ["eof", "eof"]
        calls = await readers(talk)
        assert all(len(call.body["messages"]) == 2 for call in calls)  # the lanes have no conversation
        for call in calls:
            call.answer("Eleven.")
        messages = await talk.answer(say("Eleven."))
        assert [message["content"] for message in messages[1:3]] == [QUESTION, "[interrupted]"]
        assert (await talk.ended())["status"] == "completed"


@pytest.mark.usefixtures("sources")
async def test_an_interrupt_in_the_search(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread ends at its next report, and no model is asked by that reader."""
    opened, ended = threading.Event(), threading.Event()

    def slow() -> Iterator[Passage]:
        try:
            yield from sea()
            opened.wait(10)
            for _ in range(5000):
                yield Passage("more", "sea")
            pytest.fail("read to its end")
        finally:
            ended.set()

    monkeypatch.setattr(research, "packages", slow)
    async with talking(agent, upstream) as talk:
        calls = await readers(talk, 2)
        await talk.interrupt()
        opened.set()
        await until(ended.is_set)
        assert [await call.gone() for call in calls] == ["eof", "eof"]
        assert len(upstream.calls) == 2


def test_the_best_passages_come_first() -> None:
    """Rare words count more than common ones; the reports tell how many passages were read."""
    passages = [Passage(f"p{n}", "the sea the sea") for n in range(2500)] + [Passage("tide", "the tide")]
    counts: list[int] = []
    found = search(lambda: passages, "the tide of the sea", counts.append)  # type: ignore[arg-type]
    assert found[0].title == "tide"
    assert counts == [2000, 2501]


def test_the_real_sources() -> None:
    """The reference, the library and the packages of this Python answer questions about it."""
    for source, question, title in [
        (research.language_reference, "await expression coroutine", "async"),
        (research.standard_library, "wait for a coroutine with a timeout asyncio", "asyncio"),
        (research.packages, "test framework pytest fixtures", "pytest"),
    ]:
        found = search(source, question, lambda count: None)  # type: ignore[arg-type]
        assert any(title in passage.title for passage in found), (source, [p.title for p in found])


async def test_a_folder_of_ones_own(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: None
) -> None:
    """Its text files are a fourth source."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "sea.md").write_text("# Sea\n\nDeep.\n\nThe sea is blue.", "utf-8")
    monkeypatch.setenv("RESEARCH_FOLDER", str(tmp_path))
    async with talking(agent, upstream) as talk:
        calls = await readers(talk, 4)
        assert [
            1 for call in calls if "notes/sea.md: The sea is blue." in call.body["messages"][-1]["content"]
        ] == [1]
