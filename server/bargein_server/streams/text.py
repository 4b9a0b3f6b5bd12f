"""Text in sentences or clauses, for speech synthesisers.

A boundary must not depend on how the text was cut into chunks, and must never be revised. So `end_of` is
a function of the text alone. It goes from candidate to candidate. A candidate is decided by the text
before it and by the first letter or digit after it; until that has arrived, the answer is "not yet", and
no later candidate is examined. Once a boundary is decided, more text changes nothing.

Libraries do not fit. Segmenters look at a whole text and revise their result when it grows. `sentencex`
(MIT, 2 µs a call, exact text, hundreds of languages) is the best of them; it finds a boundary before `"R`
that disappears when the closing quote arrives, does not split "Muy bien. Me gusta.", and splits "M.
Dupont". `pysbd` is unmaintained since 2021 and splits a URL at its `?`; `yasbd-lib` is MPL, has three
dependencies, and works by the paragraph. `sentence-stream` is made for streams, but strips white space and
asterisks, so its output is not its input, and it splits "Prof. Müller". `stream2sentence` drops line
breaks, separates a German closing quote from its sentence, and leaves its source open when it is closed
at a `yield`. Two sentences in one piece are a smaller fault of a voice than a title without its name, so
an ambiguous full stop ends no piece.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

from .sources import ReadBudget, Reading

_STOPS = ".!?…‽⁇⁈⁉؟۔।॥։።။។"
_WIDE_STOPS = "。！？｡"
_CLAUSES = ",;:،؛;"
_WIDE_CLAUSES = "，、；：､"
_DASHES = "–—"
_CLOSERS = "\"'”“’‘»«)]}*_`"
_WIDE_CLOSERS = "」』）】”’》〉〕］｝\"'"
_OPENERS = "\"'“‘„‚«‹»›([{¿¡*_`#「『（【《〈"

_SENTENCE = re.compile(
    rf"(?P<wide>[{_WIDE_STOPS}]+[{re.escape(_WIDE_CLOSERS)}]*\s*)"
    rf"|(?P<stop>[{_STOPS}]+[{re.escape(_CLOSERS)}]*)\s+"
    r"|(?P<line>[^\S\n]*\n\s*)"
)
_CLAUSE = re.compile(
    _SENTENCE.pattern + rf"|(?P<wide_clause>(?:[{_WIDE_CLAUSES}]|……|——)[{re.escape(_WIDE_CLOSERS)}]*\s*)"
    rf"|(?P<clause>[{_CLAUSES}][{re.escape(_CLOSERS)}]*\s+|\s[{_DASHES}]\s+|[{_DASHES}](?=\w))"
)
_BREAK = re.compile(rf".*(?:[{_CLAUSES}]\s|\s[{_DASHES}]\s|[{_WIDE_CLAUSES}])", re.DOTALL)
_SPACE = re.compile(r".*\s", re.DOTALL)
_OPENING = re.compile(rf"[{re.escape(_OPENERS)}]*\s*")
_FRENCH_CLOSING = re.compile(r"»\s*")
_WORD = re.compile(r"[^\s\"“”„«»()\[\]{}*_/—–,;:]*\Z")
_ITEM = re.compile(r"\s*\d{1,3}\Z")
_LETTERS = re.compile(r"[^\W\d_](?:\.[^\W\d_])*\Z")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Abbreviations after whose full stop a sentence continues, even before a capital letter; in lower case and
# without the last full stop. Those that may end a sentence ("at 5 p.m.", "etc.") are left out: before a small
# letter no full stop ends a sentence, and before a capital letter these do.
ABBREVIATIONS: dict[str, frozenset[str]] = {
    language: _set(words)
    for language, words in {
        "en": "dr mr mrs ms mx prof st rev hon gen col maj capt lt sgt gov sen rep pres messrs mt"
        " e.g i.e vs cf viz approx al ca esp",
        "de": "dr prof hr fr frl dipl ing st str z.b d.h u.a o.ä i.d.r bzw ca vgl evtl ggf inkl exkl"
        " zzgl sog abs tel hrsg mind",
        "fr": "m mm mme mlle mgr me dr pr st ste p.ex c.-à-d cf env av bd",
        "es": "sr sra srta sres d dña dr dra prof ud uds av avda p.ej ee pág aprox",
        "it": "sig sigg sig.ra dott dott.ssa prof prof.ssa ing avv arch egr gent p.es ca s",
        "pt": "sr sra srta dr dra prof profa eng exmo av p.ex r",
        "nl": "dhr mevr mw dr prof ir ing drs mr bijv d.w.z o.a ca",
        "pl": "dr prof mgr inż ks św np tzw m.in ul al pl woj",
        "cs": "dr mgr ing prof doc sv např tzv tj ul",
        "sv": "dr prof hr fr t.ex bl.a d.v.s s.k ca",
        "da": "dr prof hr fr f.eks bl.a d.v.s ca",
        "nb": "dr prof hr fr f.eks bl.a dvs ca",
        "fi": "dr prof esim ts mm ns",
        "tr": "dr prof doç av örn bkz sn",
        "ru": "г ул д им т.е т.н т.к св проф акад гр напр стр",
        "uk": "м вул ім т.зв св проф акад напр",
    }.items()
}

NUMBERED = _set(
    "no nos nr num núm n° vol fig figs art ch chap sec sect p pp pg tab eq ex op abb abs kap s str bd"
    " jan feb mar apr jun jul aug sep sept oct nov dec okt dez rys č стр рис гл"
)
"""Abbreviations before a number, in any language: "No. 5", "Fig. 3", "Jan. 2"."""

ORDINALS = frozenset(
    {"de", "da", "nb", "nn", "no", "fi", "cs", "sk", "pl", "hu", "sl", "hr", "et", "lv", "tr"}
)
"""Languages that write an ordinal number with a full stop: "am 3. Oktober"."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules for the end of a piece.

    Args:
        language: A BCP 47 tag; it selects the abbreviations. Unlisted languages get the general rules.
        max_chars: Maximum length of a piece; a longer one is cut at a clause, else at a space, else
            anywhere.
        min_chars: None for sentences. A number for clauses: a shorter clause is continued.
    """

    language: str = "en"
    max_chars: int = 400
    min_chars: int | None = None

    def __post_init__(self) -> None:
        if self.max_chars < 1:
            raise ValueError(f"expected max_chars to be at least 1, got {self.max_chars}")


def sentences(
    source: AsyncIterable[str], *, language: str = "en", max_chars: int = 400
) -> AsyncGenerator[str, None]:
    """Yield the text of `source` sentence by sentence.

    A sentence is given out as soon as the first letter after it has arrived, with the white space that
    follows it. Joined, the pieces are the text, and they do not depend on how it was cut into chunks.
    Abbreviations, initials, decimals, URLs, ordinals, ellipses, closing quotes and list numbers end no
    sentence. A blank line does, and so does a line break before anything but a small letter. Chinese
    and Japanese stops need no space after them.

    When the source ends or fails, the rest is the last piece, before the error. Cancelling closes the
    source and drops an incomplete sentence.

    Args:
        source: Text in chunks of any size.
        language: A BCP 47 tag; it selects the abbreviations.
        max_chars: Maximum length of a piece, in characters; a longer sentence is cut at a comma, else
            at a space, else anywhere. This bounds the wait and the memory.

    Raises:
        ValueError: `max_chars` is less than 1.
    """
    return _pieces(source, Rules(language, max_chars))


def clauses(
    source: AsyncIterable[str], *, language: str = "en", max_chars: int = 200, min_chars: int = 12
) -> AsyncGenerator[str, None]:
    """Yield the text of `source` clause by clause.

    It does as `sentences`, and also ends a piece after `, ; :` and dashes.

    Args:
        source: Text in chunks of any size.
        language: A BCP 47 tag; it selects the abbreviations.
        max_chars: Maximum length of a piece, in characters.
        min_chars: Minimum length of a clause, in characters; a shorter one is continued. Sentences have
            no minimum.

    Raises:
        ValueError: `max_chars` is less than 1.
    """
    return _pieces(source, Rules(language, max_chars, min_chars))


async def _pieces(source: AsyncIterable[str], rules: Rules) -> AsyncGenerator[str, None]:
    text, start = "", 0
    failure: Exception | None = None
    budget = ReadBudget()
    async with Reading(source) as chunks:
        while True:
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except Exception as error:
                failure = error  # raised below, after the text before it
                break
            text, start = text[start:] + chunk, 0
            while end := end_of(text, start, rules):
                budget.reset()
                yield text[start:end]
                start = end
            await budget.spend()
    if start < len(text):
        yield text[start:]
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # this frame is in the error's traceback: a cycle


def end_of(text: str, start: int, rules: Rules) -> int:
    """Return the end of the piece that begins at `start`; 0 if undecided."""
    limit = min(len(text), start + rules.max_chars)
    full = limit - start == rules.max_chars
    pattern = _SENTENCE if rules.min_chars is None else _CLAUSE
    for found in pattern.finditer(text, start, limit):
        if not text[start : found.start()].strip():
            continue
        end = found.end()
        verdict = _verdict(text, start, found, end, limit, rules)
        if verdict is None:
            if full and end == limit:
                return end
            break
        if verdict:
            return verdict
    return _cut(text, start, limit) if full else 0


def _verdict(text: str, start: int, found: re.Match[str], end: int, limit: int, rules: Rules) -> int | None:
    """Return the end of the piece; 0 to continue, None to await more text."""
    if end == limit:
        return None
    kind = found.lastgroup
    if kind == "wide":
        return end
    if kind in ("clause", "wide_clause"):
        return end if end - start >= (rules.min_chars or 0) else 0
    if rules.language[:2] == "fr" and (closing := _FRENCH_CLOSING.match(text, end, limit)):
        end = closing.end()
        if end == limit:
            return None
    following = _OPENING.match(text, end, limit)
    assert following is not None
    if following.end() == limit:
        return None
    following_char = text[following.end()]
    if found.group().count("\n") > 1:
        return end
    if following_char.islower():
        return 0
    if kind == "stop" and found["stop"].rstrip(_CLOSERS) == ".":
        return 0 if _continues(text[start : found.start()], following_char, rules.language) else end
    return end


def _continues(before: str, following: str, language: str) -> bool:
    """Return whether the full stop belongs to an abbreviation or number."""
    word = _WORD.search(before)
    assert word is not None
    short = word.group().lstrip("'’‘").lower()
    if not short:
        return False
    language = language.lower().partition("-")[0]
    if short.isdecimal():
        listed = _ITEM.match(before.rpartition("\n")[2]) is not None
        return listed or (language in ORDINALS and len(short) <= 2)
    if short in ABBREVIATIONS.get(language, ()):
        return True
    if following.isdecimal():
        return short in NUMBERED
    # "J. R. Tolkien", "the U.S. Army"; "5 p.m. Then" ends, and so does "so do I. Then".
    return _LETTERS.fullmatch(word.group()) is not None and word.group().isupper() and word.group() != "I"


def _cut(text: str, start: int, limit: int) -> int:
    """Return the position at which to cut a piece that is too long."""
    middle = start + (limit - start) // 2
    for pattern in (_BREAK, _SPACE):
        if found := pattern.match(text, middle, limit):
            return found.end()
    return limit
