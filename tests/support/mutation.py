"""Guards that are taken out of a copy of the packages, to see that a test of their clause misses them.

A mutant is an entry of a list in `mutants/`: the text of a guard, what takes its place, the clause of
the contract that it serves, and the tests that must fail without it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from verdicts import ASSERTION, PACKAGES, PASSED

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent

# Far beyond what the tests of one mutant take: each has a time-out of its own.
PATIENCE_S = 100.0


class Stale(Exception):
    """The text of a guard is not, or not only once, in its file: the list has to follow the code."""


class Edit(Struct, frozen=True, forbid_unknown_fields=True):
    """One change of one file.

    Args:
        file: The file, from the root of the repository.
        old: What stands there exactly once.
        new: What takes its place.
    """

    file: str
    old: str
    new: str


class Mutant(Struct, frozen=True, forbid_unknown_fields=True):
    """See the module.

    Args:
        guard: What the code does not do any more.
        clause: The clause of the contract; 0 for what guards the server itself.
        edits: What makes it so.
        caught_by: The tests that must fail by an assertion, from the folder of the tests.
    """

    guard: str
    clause: int
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]


class _List(Struct, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def load(folder: Path) -> tuple[Mutant, ...]:
    """Return the mutants of all lists in a folder."""
    lists = [msgspec.toml.decode(path.read_bytes(), type=_List) for path in sorted(folder.glob("*.toml"))]
    return tuple(mutant for each in lists for mutant in each.mutant)


def copy_packages(target: Path, edits: tuple[Edit, ...] = ()) -> None:
    """Copy the packages and change the copy.

    Raises:
        Stale: A guard is not where the list says.
    """
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("node_modules"))
    for edit in edits:
        path = target / edit.file
        text = path.read_text("utf-8")
        if (found := text.count(edit.old)) != 1:
            raise Stale(f"expected {edit.old!r} once in {edit.file}, found it {found} times")
        path.write_text(text.replace(edit.old, edit.new), "utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()


def judge(sources: Path, tests: tuple[str, ...]) -> dict[str, str]:
    """Run tests on a copy of the packages in a process of their own.

    Returns:
        The verdict of each test by its id, as in `verdicts`; those of all its cases have one id each.
    """
    report = sources / "report.json"
    ids = [str(TESTS / test) for test in tests]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    environment["PYTHONPATH"] = os.pathsep.join(str(sources / package) for package in PACKAGES)
    program = [sys.executable, str(TESTS / "verdicts.py"), str(report), str(sources), *ids]
    done = subprocess.run(
        program, cwd=ROOT, env=environment, timeout=PATIENCE_S, capture_output=True, text=True, check=False
    )
    if not report.exists():
        return dict.fromkeys(ids, f"no report: {done.stdout[-500:]}{done.stderr[-500:]}")
    verdicts: dict[str, str] = json.loads(report.read_text())
    return verdicts


def cases(test: str, verdicts: dict[str, str]) -> list[str]:
    """Return the verdicts of all cases of a test, or of the one that is named in brackets."""
    named = f"tests/{test}"
    return [verdict for case, verdict in verdicts.items() if named in (case, case.partition("[")[0])]


def survives(test: str, verdicts: dict[str, str]) -> str | None:
    """Return why a test did not catch a mutant; None when it did.

    It did when at least one of its cases failed by an assertion, and none in another way.
    """
    of_test = cases(test, verdicts)
    odd = [verdict for verdict in of_test if verdict not in (PASSED, ASSERTION)]
    if odd:
        return f"{test} failed by something else than an assertion: {odd[0]}"
    return None if ASSERTION in of_test else f"{test} passed without the guard ({len(of_test)} cases ran)"
