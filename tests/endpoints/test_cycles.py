"""Nothing that ends leaves work for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from weakref import ref

import pytest

from bargein_protocol import CallId, Status, Thought, ToolCall
from bargein_server import Output, Turn
from bargein_server.core.tool_ledger import CallRecord
from core_driver import Talk
from live_server import Serving, serving

# Its part of the log, and no record of it.
WALKED_IN_A_TURN = 1


class Marked(str):
    """Text that tells when it is gone."""


async def speaks(turn: Turn) -> AsyncIterator[Output]:
    """Says two words and goes on, or not."""
    yield "word "
    yield "word "
    if turn.text == "long":
        await asyncio.Event().wait()


async def conversation(server: Serving) -> None:
    """Have a turn that completes and one that is cut, and close the session."""
    async with server.connect() as client:
        await client.send({"type": "input.text", "id": "i1", "text": "short"})
        await client.until("turn.ended")
        await client.send({"type": "input.text", "id": "i2", "text": "long"})
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x1"})
        await client.until("turn.ended")
        await client.send({"type": "session.close"})
        await client.closed()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_session_that_was_closed_is_in_no_cycle() -> None:
    """Its log and its history are large; what is in a cycle stays until all objects are walked through."""
    async with serving(speaks) as server:
        await conversation(server)  # what is made once
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await conversation(server)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found = Counter(
                type(garbage).__name__
                for garbage in gc.garbage
                if type(garbage).__module__.startswith("bargein_server")
            )
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert found == {}


def test_a_turn_that_is_remembered_is_a_few_objects_to_walk_through() -> None:
    """Every walk of the collector is a pause, and it comes the sooner the more of them there are."""
    talk, turns = Talk(), 20

    def have(turns: int) -> int:
        for _ in range(turns):
            turn = talk.ask()
            talk.emit(turn, *["word "] * 100)
            talk.interrupt(turn)
            talk.cleaned_up(turn)
        talk.events.clear()
        gc.collect()
        return len(gc.get_objects())

    before = have(turns)
    assert have(turns) - before <= turns * WALKED_IN_A_TURN


def test_nothing_leads_back_to_the_record_of_a_turn() -> None:
    """The collector does not look into records: if one were in a cycle, it would never go."""
    talk = Talk()
    asked = Marked("hello")
    turn = talk.ask(asked)
    gone = ref(asked)
    del asked
    talk.emit(turn, "word ", Thought(text="Hm."), Status(message="fine", source="other"))
    talk.emit(turn, ToolCall(call_id=CallId("c"), name="look"))
    assert talk.session.tools.begin(turn, CallRecord(CallId("c"), "look", {}))
    talk.interrupt(turn)
    talk.cleaned_up(turn)
    assert gone() is not None
    del talk
    gc.collect()
    assert gone() is None
