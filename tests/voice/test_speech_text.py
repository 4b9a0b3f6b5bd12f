"""Text becomes sentences: at the next letter, at a mark, at the end, and in a pause of the agent."""

from __future__ import annotations

import asyncio

import pytest

from bargein_server.voice.speech_text import MAX_CHARS, PAUSE_S, Mark, SpeechText

pytestmark = pytest.mark.virtual_time


async def taken(text: SpeechText, count: int) -> list[str | Mark]:
    """Return the next sentences and marks."""
    found: list[str | Mark] = []
    async for item in text.sentences():
        found.append(item)
        if len(found) == count:
            break
    return found


async def test_a_sentence_ends_when_the_next_begins() -> None:
    """The rest comes at the end."""
    text = SpeechText("en", 300)
    for piece in ("Yes. I", " know. Bye"):
        await text.put(piece)
    text.close()
    assert [item async for item in text.sentences()] == ["Yes. ", "I know. ", "Bye"]


async def test_a_pause_ends_what_looks_like_a_sentence() -> None:
    """An agent says "Let me look." and calls a tool: the user hears it now."""
    text, loop = SpeechText("en", 300), asyncio.get_running_loop()
    await text.put("Let me look.")
    before = loop.time()
    assert await taken(text, 1) == ["Let me look."]
    assert PAUSE_S <= loop.time() - before < PAUSE_S + 0.1


async def test_half_a_sentence_waits_for_its_end() -> None:
    """A slow model does not make the voice stumble."""
    text = SpeechText("en", 300)
    await text.put("Let me")
    reading = asyncio.create_task(taken(text, 1))
    await asyncio.sleep(10)
    assert not reading.done()
    await text.put(" look. ")
    await text.put("Now")
    assert await reading == ["Let me look. "]


async def test_a_mark_ends_a_sentence() -> None:
    """And comes after its text."""
    text = SpeechText("en", 300)
    await text.put("This call may")
    mark = text.mark()
    assert await taken(text, 2) == ["This call may", mark]


async def test_an_error_comes_after_the_text_before_it() -> None:
    """The user hears what there is."""
    text = SpeechText("en", 300)
    await text.put("One. Tw")
    text.close(ValueError("broken"))
    assert await taken(text, 2) == ["One. ", "Tw"]
    with pytest.raises(ValueError, match="broken"):
        await taken(text, 1)


async def test_an_agent_is_not_read_far_ahead() -> None:
    """The writer waits while enough text waits for the voice."""
    text = SpeechText("en", 300)
    await text.put("word " * (MAX_CHARS // 5))
    writing = asyncio.create_task(text.put("more"))
    await asyncio.sleep(1)
    assert not writing.done()
    await taken(text, 1)
    await writing
