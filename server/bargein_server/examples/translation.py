"""Live translation: sentence by sentence, while the text still comes in.

    bargein-server bargein_server.examples.translation:agent

Send a text in pieces, as a speech recognizer or a typist makes it. Each piece interrupts the answer to the
one before, and no sentence is lost by that: sentences whose translation was not received whole are
translated again, before the new ones. An unfinished sentence waits for its rest. A stop by the user ends
the text. Begin an input with "into French:" to choose the language; the first one is German.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

from bargein_server.agent import Output, Turn
from bargein_server.streams import sentences, transformed, with_progress

from .model import Model, with_model

PAUSE_S = 1.0
"""Seconds that an unfinished sentence waits for its rest."""

model: Model = Model("You are an interpreter. Answer with the translation only: no quotes, no comment.")

_INTO = re.compile(r"\s*into\s+(\w{2,20})\s*:\s*", re.IGNORECASE)
_WHOLE = re.compile(r"[.!?…。！？][\"'”’»)]*\s*$")


class Text:
    """Text of a session that is being translated.

    Attributes:
        language: The language to translate into.
        rest: Text whose translation was not received yet.
    """

    def __init__(self) -> None:
        self.language: str = "German"
        self.rest: str = ""
        self._last: Turn | None = None
        self._told: list[tuple[str, str]] = []

    def begin(self, turn: Turn) -> list[tuple[str, str]]:
        """Settle the last turn's result; return the pairs that this turn sends.

        Sentences count as translated if the history has their whole translation. It is done here and not
        in a `finally` of the last turn, because that may still be running.
        """
        heard = _last_answer(turn)
        for sentence, translation in self._told:
            if not heard.startswith(translation.rstrip()):
                break
            heard = heard[len(translation) :]
            self.rest = self.rest.removeprefix(sentence)
        if self._last is not None and self._last.reason not in (None, "superseded", "barge_in"):
            self.rest = ""  # the user has stopped it
        self._last, self._told = turn, []
        return self._told

    def add(self, piece: str) -> None:
        """Add a piece of the text."""
        if into := _INTO.match(piece):
            self.language, piece = into[1].capitalize(), piece[into.end() :]
        gap = " " if self.rest and not self.rest[-1].isspace() else ""
        self.rest += gap + piece

    async def read(self) -> AsyncIterator[str]:
        """Yield the rest; an unfinished last sentence ends after a pause."""
        yield self.rest
        if not _WHOLE.search(self.rest):
            await asyncio.sleep(PAUSE_S)


@with_model
async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
    """Translate the rest of the text, and the input."""
    text: Text = turn.session.state.setdefault("text", Text())
    told = text.begin(turn)
    text.add(turn.text)
    yield turn.status(f"Translating into {text.language}", "speech")
    # The model works on the next sentences while one is sent.
    pairs = transformed(sentences(text.read()), partial(_translated, turn, text.language), ahead=2)
    async with aclosing(with_progress(pairs, unit="sentences", label="translated")) as outputs:
        async for output in outputs:
            if isinstance(output, tuple):
                told.append(output)
                yield output[1]
            else:
                yield output


async def _translated(turn: Turn, language: str, sentence: str) -> tuple[str, str]:
    """Return a sentence with its translation and the same white space."""
    space = sentence[len(sentence.rstrip()) :] or " "
    translation = await model.text(turn, f"Translate into {language}:\n{sentence.strip()}")
    return sentence, " ".join(translation.split()) + space


def _last_answer(turn: Turn) -> str:
    messages = turn.history.messages(mark=None)[:-1]
    if not messages or messages[-1]["role"] != "assistant":
        return ""
    return str(messages[-1]["content"])
