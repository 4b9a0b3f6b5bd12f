"""Live translation, sentence by sentence, of a text that comes in pieces."""

from __future__ import annotations

import pytest

from bargein_server.examples import translation
from bargein_server.examples.translation import agent
from example_client import Talk, talking
from model_server import Call, Upstream


async def sentence(talk: Talk) -> tuple[str, Call]:
    """Return the sentence that the model is asked to translate, and the request."""
    call = await talk.call()
    return str(call.body["messages"][-1]["content"]), call


async def translate(talk: Talk, original: str, german: str) -> None:
    """Let the model translate the sentence that comes next."""
    asked, call = await sentence(talk)
    assert asked == f"Translate into German:\n{original}"
    call.answer(german)


async def test_sentence_by_sentence(upstream: Upstream) -> None:
    """Each is sent when it is there, with its progress; the model works on the next one meanwhile."""
    async with talking(agent, upstream) as talk:
        await talk.ask("The sea is old. It is deep.")
        await translate(talk, "The sea is old.", "Das Meer ist alt.")
        await talk.text("Das Meer ist alt. ")
        await translate(talk, "It is deep.", "Es ist tief.")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == "Das Meer ist alt. Es ist tief. "
        assert [(p["value"], p["unit"]) for p in talk.of("progress")] == [(1, "sentences"), (2, "sentences")]


async def test_a_piece_that_comes_in_a_sentence(upstream: Upstream) -> None:
    """The sentence that was not received is translated again, whole, before the new one."""
    async with talking(agent, upstream) as talk:
        await talk.ask("The sea is old. It is")
        await translate(talk, "The sea is old.", "Das Meer ist alt.")
        await talk.text("Das Meer ist alt. ")
        await talk.ask("deep. It sleeps.", on_busy="interrupt")
        await translate(talk, "It is deep.", "Es ist tief.")
        await translate(talk, "It sleeps.", "Es schläft.")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == "Es ist tief. Es schläft. "


async def test_a_piece_while_the_model_translates(upstream: Upstream) -> None:
    """The model's call is closed, and nothing is lost."""
    async with talking(agent, upstream) as talk:
        await talk.ask("The sea is old. It is deep.")
        _, call = await sentence(talk)
        call.open()
        call.text("Das Me")
        await talk.ask("It sleeps.", on_busy="interrupt")
        assert await call.gone() == "eof"
        for original, german in [
            ("The sea is old.", "Alt."),
            ("It is deep.", "Tief."),
            ("It sleeps.", "Es schläft."),
        ]:
            await translate(talk, original, german)
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == "Alt. Tief. Es schläft. "


async def test_a_sentence_of_which_a_part_was_received(upstream: Upstream) -> None:
    """It is translated again, as the client reports what it has shown."""
    async with talking(agent, upstream) as talk:
        await talk.ask("The sea is old. It is deep.")
        await translate(talk, "The sea is old.", "Das Meer ist alt.")
        _, call = await sentence(talk)
        await talk.text("Das Meer ist alt. ")
        await talk.interrupt(played={"chars": 5}, reason="barge_in")
        assert await call.gone() == "eof"
        await talk.ask("It sleeps.")
        await translate(talk, "The sea is old.", "Das Meer ist alt.")
        await translate(talk, "It is deep.", "Es ist tief.")
        await translate(talk, "It sleeps.", "Es schläft.")
        assert (await talk.ended())["status"] == "completed"


async def test_a_stop_ends_the_text(upstream: Upstream) -> None:
    """What the user has stopped is not translated again."""
    async with talking(agent, upstream) as talk:
        await talk.ask("The sea is old. It is deep.")
        _, call = await sentence(talk)
        await talk.interrupt()
        assert await call.gone() == "eof"
        await talk.ask("It sleeps.")
        await translate(talk, "It sleeps.", "Es schläft.")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == "Es schläft. "


async def test_a_failed_translation_comes_again(upstream: Upstream) -> None:
    """The turn fails for the model's sake; the next piece brings its sentence, too."""
    async with talking(agent, upstream) as talk:
        await talk.ask("The sea is old.")
        _, call = await sentence(talk)
        call.reply(400, {"error": {"message": "no"}})
        assert (await talk.ended())["reason"] == "upstream"
        await talk.ask("It sleeps.")
        await translate(talk, "The sea is old.", "Das Meer ist alt.")
        await translate(talk, "It sleeps.", "Es schläft.")
        assert (await talk.ended())["status"] == "completed"


async def test_an_unfinished_sentence_waits(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause it is translated as it is."""
    monkeypatch.setattr(translation, "PAUSE_S", 0.01)
    async with talking(agent, upstream) as talk:
        await talk.ask("into german: the sea")
        await translate(talk, "the sea", "das Meer")
        assert (await talk.ended())["status"] == "completed"
        assert talk.said() == "das Meer "


async def test_another_language(upstream: Upstream) -> None:
    """It stays for the session."""
    async with talking(agent, upstream) as talk:
        for text in ("into French: The sea.", "The sea."):
            await talk.ask(text)
            asked, call = await sentence(talk)
            assert asked == "Translate into French:\nThe sea."
            call.answer("La mer.")
            await talk.ended()
