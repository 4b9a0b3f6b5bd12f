"""Completion of names while they are typed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from bargein_client import connect
from bargein_protocol import Data
from bargein_server.examples import library as index
from bargein_server.examples import typeahead
from bargein_server.examples.library import Entry, Library, library
from bargein_server.examples.typeahead import agent
from example_client import Talk
from live_server import serving
from model_server import Upstream


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    """A client."""
    async with serving(agent) as server, server.connect() as client:
        yield Talk(server, client, cast("Upstream", None))


async def test_names_and_the_best_one(talk: Talk) -> None:
    """The names come at once, the description after a pause."""
    await talk.ask("asyncio.wait_f")
    assert (await talk.ended())["status"] == "completed"
    assert talk.data("completions") == [["asyncio.wait_for"]]
    assert talk.said().startswith("- `asyncio.wait_for` Wait for the single Future")
    assert "**asyncio.wait_for** is a function." in talk.said()


async def test_each_keystroke_interrupts_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Typed as fast as it goes: one end each, all but the last superseded, and the rate is counted."""
    monkeypatch.setattr(typeahead, "PAUSE_S", 0.5)
    word = "asyncio.wait_for"
    async with serving(agent) as server, connect(server.url) as session:
        turns = [session.send(word[:length], on_busy="interrupt") for length in range(1, len(word) + 1)]
        ends = [await turn.ended() for turn in turns]
        assert [(end.status, end.reason) for end in ends[:-1]] == [("interrupted", "superseded")] * (
            len(word) - 1
        )
        assert ends[-1].status == "completed"
        rates = [event.value async for event in turns[-1] if isinstance(event, Data) and event.name == "rate"]
    assert len(rates) == 1
    assert 1 <= rates[0]["inputs"] <= len(word)  # an input that is overtaken may never begin


async def test_a_pause_begins_a_new_count(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is that of one word."""
    monkeypatch.setattr(typeahead, "PAUSE_S", 0)
    for text, pause_s, inputs in (("a", 60, 1), ("as", 60, 2), ("asy", -1, 1)):
        monkeypatch.setattr(typeahead, "NEW_WORD_S", pause_s)
        await talk.ask(text)
        await talk.ended()
        assert talk.data("rate")[0]["inputs"] == inputs


async def test_nothing_found(talk: Talk) -> None:
    """The answer says so."""
    await talk.ask("no such name")
    assert (await talk.ended())["status"] == "completed"
    assert talk.said() == "No name of the standard library contains `no such name`."


def test_the_order() -> None:
    """Names that begin with it, then those with a part that does, then the rest; short ones first."""
    names = ["sleep", "time.sleep", "asyncio.sleep", "oversleep", "sleeping", "wake"]
    found = Library([Entry(name, "function", "") for name in names]).complete("Sleep")
    assert [entry.name for entry in found] == [
        "sleep",
        "sleeping",
        "time.sleep",
        "asyncio.sleep",
        "oversleep",
    ]
    assert Library([]).complete("") == []


def test_the_standard_library() -> None:
    """Written in Python or not, with first lines of docstrings."""
    entries = {entry.name: entry for entry in library().entries}
    for name in ("json.dumps", "asyncio.wait_for", "time.sleep", "builtins.len", "email.message_from_string"):
        assert entries[name].summary, name
    assert not [name for name in entries if name.split(".")[-1].startswith("_")]


async def test_threads_of_turns_that_were_cut_read_the_library_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go on beside the next turn's thread."""
    reading = 0

    def files() -> list[Path]:
        nonlocal reading
        reading += 1
        time.sleep(0.05)
        return []

    index._library.cache_clear()
    monkeypatch.setattr(index, "_files", files)
    try:
        await asyncio.gather(*(asyncio.to_thread(library) for _ in range(4)))
    finally:
        index._library.cache_clear()
    assert reading == 1
