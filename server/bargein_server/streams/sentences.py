"""Text in sentences or clauses, as a speech synthesiser wants it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

from .boundaries import Rules, end_of
from .breath import Breath
from .reading import Reading


def sentences(
    source: AsyncIterable[str], *, language: str = "en", max_chars: int = 400
) -> AsyncGenerator[str, None]:
    """Yield the text of `source` sentence by sentence.

    A sentence is given out as soon as the first letter after it has come, with the white space that
    follows it: joined, the pieces are the text, and they do not depend on how it was cut into chunks.
    Abbreviations, initials, decimals, URLs, ordinals, ellipses, closing quotes and list numbers end no
    sentence; a blank line does, and so does a line break before anything but a small letter. Chinese
    and Japanese stops need no space after them.

    When the source ends or fails, what is left comes as the last piece, before the error. Cancelling
    closes the source; what was read and is not a whole sentence yet is dropped.

    Args:
        source: Text in chunks of any size.
        language: A BCP 47 tag, for the abbreviations.
        max_chars: No piece is longer, in characters; a longer sentence is cut at a comma, else at a
            space, else anywhere. This bounds the wait and the memory.

    Raises:
        ValueError: `max_chars` is less than 1.
    """
    return _pieces(source, Rules(language, max_chars))


def clauses(
    source: AsyncIterable[str], *, language: str = "en", max_chars: int = 200, min_chars: int = 12
) -> AsyncGenerator[str, None]:
    """Yield the text of `source` clause by clause: like `sentences`, and after `, ; :` and dashes too.

    Args:
        source: Text in chunks of any size.
        language: A BCP 47 tag, for the abbreviations.
        max_chars: No piece is longer, in characters.
        min_chars: A clause that is shorter, in characters, goes on; a sentence never does.

    Raises:
        ValueError: `max_chars` is less than 1.
    """
    return _pieces(source, Rules(language, max_chars, min_chars))


async def _pieces(source: AsyncIterable[str], rules: Rules) -> AsyncGenerator[str, None]:
    text, start = "", 0
    failure: Exception | None = None
    breath = Breath()
    async with Reading(source) as chunks:
        while True:
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except Exception as error:
                failure = error  # raised below, after what came before it
                break
            text, start = text[start:] + chunk, 0
            while end := end_of(text, start, rules):
                breath.given()
                yield text[start:end]
                start = end
            await breath.read()
    if start < len(text):
        yield text[start:]
    if failure is not None:
        raise failure
