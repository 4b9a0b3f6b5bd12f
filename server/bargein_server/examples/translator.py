"""Translator from English into German, with a small dictionary.

It composes stream operators: a source of words (in practice a model), split into sentences, each translated
while the next one is read, with progress events. An interrupt at any point closes all of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing

from ..agent import Output, Turn
from ..streams import sentences, transformed, with_progress

WORDS_PER_SECOND = 20.0

_DICTIONARY: dict[str, str] = dict(
    re.findall(
        r"(\w+)=(\w+)",
        "a=ein and=und boat=Boot came=kam girl=Mädchen good=gut he=er hello=hallo here=hier how=wie i=ich"
        " in=in is=ist it=es keeper=Wärter morning=Morgen my=mein name=Name no=nein not=nicht old=alt"
        " please=bitte sea=Meer she=sie ship=Schiff sings=singt small=klein smith=Schmidt speak=sprechen"
        " story=Geschichte thank=danke the=das this=dies was=war we=wir where=wo world=Welt yes=ja you=du",
    )
)


async def translator(turn: Turn) -> AsyncIterator[Output]:
    """Translate the input; words that are not in the dictionary stay."""
    yield turn.status("Translating", "language")
    original = sentences(_words(turn.text))
    translated = transformed(original, _translate)
    async with aclosing(with_progress(translated, unit="sentences", label="translated")) as outputs:
        async for output in outputs:
            yield output


async def _words(text: str) -> AsyncIterator[str]:
    """Yield the text word by word, as a model does."""
    for word in re.findall(r"\s*\S+\s*?", text):
        yield word
        await asyncio.sleep(1 / WORDS_PER_SECOND)


def _translate(sentence: str) -> str:
    return re.sub(r"\w+", _translate_word, sentence)


def _translate_word(found: re.Match[str]) -> str:
    word = found.group()
    translation = _DICTIONARY.get(word.lower(), word)
    return translation[0].upper() + translation[1:] if word[0].isupper() else translation
