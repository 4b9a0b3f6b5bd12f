"""Where a sentence or a clause ends, decided on text that is still coming.

A decision must not depend on how the text was cut into chunks, and must not be taken back. So `end_of`
is a function of the text alone: it goes from candidate to candidate, and a candidate is decided by
what stands before it and by the first letter or digit after it; when that has not come yet, the answer
is "not yet", and no later candidate is looked at. Once it says where a piece ends, more text changes
nothing.

Why not a library: segmenters look at a whole text and change their mind when it grows. `sentencex`
(MIT, 2 µs a call, exact text, hundreds of languages) is the best of them, and finds a boundary before
`"R` which is gone when the closing quote comes, keeps "Muy bien. Me gusta." in one, and parts "M.
Dupont". `pysbd` has been still since 2021 and parts a URL at its `?`; `yasbd-lib` is MPL, with three
dependencies, by the paragraph. `sentence-stream` is made for streams, but strips white space and
asterisks, so the text that comes out is not the text that went in, and parts "Prof. Müller".
`stream2sentence` drops line breaks, tears a German closing quote from its sentence, and leaves its source
open when it is closed at a `yield`. A voice can bear two sentences in one piece better than a title torn
from its name, so what cannot be known goes on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .abbreviations import ABBREVIATIONS, NUMBERED, ORDINALS

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


@dataclass(frozen=True, slots=True)
class Rules:
    """What ends a piece.

    Args:
        language: A BCP 47 tag; it chooses the abbreviations. Other languages get only the general rules.
        max_chars: No piece is longer; a longer one is cut at a clause, else at a space, else anywhere.
        min_chars: None: pieces are sentences. A number: clauses, and one shorter than this goes on.
    """

    language: str = "en"
    max_chars: int = 400
    min_chars: int | None = None

    def __post_init__(self) -> None:
        if self.max_chars < 1:
            raise ValueError(f"expected max_chars to be at least 1, got {self.max_chars}")


def end_of(text: str, start: int, rules: Rules) -> int:
    """Return where the piece that begins at `start` ends; 0: that is not known yet."""
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
    """Return the end of the piece, 0 when it goes on, None when more text is needed."""
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
        return 0 if _goes_on(text[start : found.start()], following_char, rules.language) else end
    return end


def _goes_on(before: str, following: str, language: str) -> bool:
    """Say whether the full stop after `before` belongs to an abbreviation or a number."""
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
    """Return where to cut a piece that is too long."""
    middle = start + (limit - start) // 2
    for pattern in (_BREAK, _SPACE):
        if found := pattern.match(text, middle, limit):
            return found.end()
    return limit
