"""Fuzzing from a seed: a corpus of small files, mutants of it, and a file for each input that failed.

A failure names its seed; `BARGEIN_FUZZ_SEED` gives it again. The input that failed is written, after it was
made smaller, to `tests/fuzz/corpus/<target>/<its hash>`, so that every later run begins with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NoReturn, TypeVar

import pytest

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"

MAX_BYTES = 4096
SLOW_S = 0.1
SLOW_S_PER_BYTE = 1e-5

T = TypeVar("T")
Check = Callable[[bytes], None]

_NUMBERS = tuple(
    str(number).encode()
    for number in (
        0, -1, 1, 2, 127, 128, 255, 256, 1023, 1024, 65_535, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - 1,
        2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**400, 1e15, -0.0, 1e308,
        "1e999", 0.5,
    )
)  # fmt: skip
_BYTES = b"\x00\x01\x7f\x80\xff\xfe\xc2\xed\xf0\xef\xbb\xbf\r\n\t :;,.\"'\\/{}[]<>%&+-=0aA"
_DIGITS = re.compile(rb"-?\d+")

short = pytest.param(False, id="day")
long = pytest.param(True, id="night", marks=[pytest.mark.nightly, pytest.mark.timeout(600)])
day_and_night = pytest.mark.parametrize("night", [short, long])
"""A short pass with one seed, the same every day; a long one with a new seed every night."""


class Mutator:
    """Source of mutants.

    Args:
        chance: Source of randomness.
        corpus: Inputs to begin with.
        words: Pieces of the input's language.
    """

    def __init__(self, chance: Random, corpus: Sequence[bytes], words: Sequence[bytes]) -> None:
        self._chance = chance
        self._corpus = corpus
        self._words = [*words, *_NUMBERS]
        self._ways = (
            self._set_byte, self._set_byte, self._insert_word, self._insert_word, self._overwrite,
            self._delete, self._repeat, self._splice, self._number, self._number, self._cut,
        )  # fmt: skip

    def mutant(self) -> bytes:
        """Return an input of the corpus after one to four changes."""
        data = self._pick(self._corpus)
        for _ in range(1 + int(self._chance.random() ** 2 * 4)):
            data = self._pick(self._ways)(data)
        return data[:MAX_BYTES]

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[int(self._chance.random() * len(choices))]

    def _at(self, data: bytes) -> int:
        return int(self._chance.random() * (len(data) + 1))

    def _set_byte(self, data: bytes) -> bytes:
        at = self._at(data)
        byte = self._pick(_BYTES) if self._chance.random() < 0.7 else int(self._chance.random() * 256)
        return b"%s%c%s" % (data[:at], byte, data[at + 1 :])

    def _insert_word(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + self._pick(self._words) + data[at:]

    def _overwrite(self, data: bytes) -> bytes:
        at, word = self._at(data), self._pick(self._words)
        return data[:at] + word + data[at + len(word) :]

    def _delete(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + data[at + 1 + int(self._chance.random() ** 3 * 32) :]

    def _repeat(self, data: bytes) -> bytes:
        at = self._at(data)
        end = at + 1 + int(self._chance.random() ** 2 * 64)
        return data[:at] + data[at:end] * (2 + int(self._chance.random() ** 6 * 400)) + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self._pick(self._corpus)
        return data[: self._at(data)] + other[self._at(other) :]

    def _number(self, data: bytes) -> bytes:
        found = list(_DIGITS.finditer(data[:MAX_BYTES]))
        if not found:
            return self._insert_word(data)
        one = self._pick(found)
        return data[: one.start()] + self._pick(_NUMBERS) + data[one.end() :]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._at(data)]


class Target:
    """One thing that is fuzzed.

    Args:
        name: Folder of its corpus.
        night: Whether this is the long pass.
        seeds: Further inputs to begin with.
        words: Pieces of the input's language.
        lines: Whether an input consists of lines, which are left out whole to make it smaller.

    Attributes:
        chance: Source of all randomness of the run.
    """

    def __init__(
        self,
        name: str,
        night: bool,
        *,
        seeds: Iterable[bytes] = (),
        words: Sequence[bytes] = (),
        lines: bool = False,
    ) -> None:
        self._lines = lines
        self._folder = CORPUS / name
        self._seed = os.environ.get("BARGEIN_FUZZ_SEED") or (secrets.token_hex(8) if night else "day")
        self.chance = Random(self._seed)
        kept = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        self._corpus = [*(file.read_bytes() for file in kept), *seeds]
        self._mutator = Mutator(self.chance, self._corpus, words)

    def inputs(self, count: int) -> Iterator[bytes]:
        """Yield the corpus, then mutants."""
        yield from self._corpus
        for _ in range(count):
            yield self._mutator.mutant()

    def run(self, check: Check, count: int) -> None:
        """Check the corpus and mutants; each must be checked in time."""
        for data in self.inputs(count):
            self.check(data, check)

    def check(self, data: bytes, check: Check) -> None:
        """Check one input; it must be checked in time."""
        began = time.thread_time()
        try:
            check(data)
        except Exception as error:
            self.fail(data, error, check)
        if time.thread_time() - began > SLOW_S + SLOW_S_PER_BYTE * len(data):
            self._measure(data, check)

    def fail(self, data: bytes, error: BaseException, check: Check | None = None) -> NoReturn:
        """Keep an input that failed, smaller if it can be, and fail."""
        if check is not None:
            parts = data.splitlines(True) if self._lines else [data[at : at + 1] for at in range(len(data))]
            data = _smaller(parts, error, check)
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / hashlib.sha256(data).hexdigest()[:16]
        file.write_bytes(data)
        raise AssertionError(
            f"{type(error).__name__}: {error}\n"
            f"{data[:200]!r} fails; it was kept as {file.relative_to(CORPUS)}. BARGEIN_FUZZ_SEED={self._seed}"
        ) from error

    def _measure(self, data: bytes, check: Check) -> None:
        # Another look, because the machine has other work.
        times = []
        for _ in range(3):
            began = time.thread_time()
            check(data)
            times.append(time.thread_time() - began)
        if min(times) > SLOW_S + SLOW_S_PER_BYTE * len(data):
            self.fail(data, AssertionError(f"{len(data)} bytes take {min(times):.2f} s"))


def _smaller(parts: list[bytes], error: BaseException, check: Check) -> bytes:
    """Return some parts of an input that fail in the same place."""
    place = _place(error)

    def fails(kept: list[bytes]) -> bool:
        try:
            check(b"".join(kept))
        except Exception as other:
            return _place(other) == place
        return False

    size = len(parts) // 2
    while size:
        at = 0
        while at < len(parts):
            kept = parts[:at] + parts[at + size :]
            if fails(kept):
                parts = kept
            else:
                at += size
        size //= 2
    return b"".join(parts)


def _place(error: BaseException) -> object:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return type(error), step and (step.tb_frame.f_code, step.tb_lineno)
