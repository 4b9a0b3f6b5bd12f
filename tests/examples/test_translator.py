"""The translator speaks sentence by sentence."""

from __future__ import annotations

import asyncio

import pytest

from bargein_protocol import Progress, TurnHold, TurnResume
from bargein_server.examples.translator import translator
from memory_client import Line, serve
from waiting import in_virtual_time

pytestmark = pytest.mark.virtual_time

TEXT = "Hello, Dr. Smith! The sea is old. The girl sings:\n\nWe speak"
GERMAN = ["Hallo, Dr. Schmidt! ", "Das Meer ist alt. ", "Das Mädchen singt:\n\n", "Wir sprechen"]


async def test_each_sentence_is_one_piece_of_the_answer_with_its_progress() -> None:
    """The first one comes before the text is at its end."""
    line = Line(serve(translator))
    line.ask(TEXT)
    await in_virtual_time(line.texts)
    assert asyncio.get_running_loop().time() < 0.3
    await in_virtual_time(line.ends)
    assert line.texts() == GERMAN
    assert line.types()[4:8] == ["text.delta", "progress"] * 2
    reports = [event for event in line.events if isinstance(event, Progress)]
    assert [(report.value, report.unit) for report in reports] == [(n, "sentences") for n in (1, 2, 3, 4)]
    assert line.ends()[0].status == "completed"


async def test_an_interrupt_between_two_sentences_keeps_what_was_said() -> None:
    """Whole sentences, and no task of the streams is left."""
    before = asyncio.all_tasks()
    line = Line(serve(translator))
    turn = line.ask(TEXT)
    await in_virtual_time(line.texts)
    line.interrupt(turn)
    assert line.ends()[0].heard.text == GERMAN[0]
    await asyncio.sleep(1)
    assert line.texts() == GERMAN[:1]
    assert asyncio.all_tasks() == before


async def test_a_hold_loses_nothing() -> None:
    """After it the next sentence comes."""
    line = Line(serve(translator, hold_s=60))
    turn = line.ask(TEXT)
    await in_virtual_time(line.texts)
    line.send(TurnHold(turn_id=turn))
    await asyncio.sleep(30)
    assert line.texts() == GERMAN[:1]
    line.send(TurnResume(turn_id=turn))
    await in_virtual_time(line.ends)
    assert line.texts() == GERMAN
