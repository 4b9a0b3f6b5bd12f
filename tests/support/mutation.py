"""Mutants in a copy of the packages: without a guard, tests must fail.

A mutant is an entry of a list in `mutants/`: the changes that take a guard out, the clause of the
contract that it serves, and the tests that must fail without it. `code_change` has the vocabulary.
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

from code_change import Change, Stale, change_source
from verdicts import ASSERTION, PACKAGES, PASSED

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent

# Far beyond what the tests of one mutant take: each has a timeout of its own.
PATIENCE_S = 540.0


class Mutant(Struct, frozen=True, forbid_unknown_fields=True):
    """A guard that is taken out, and the tests that must fail without it.

    Args:
        guard: What the code does not do any more.
        clause: The clause of the contract; 0 for what guards the server itself.
        changes: The changes that take the guard out.
        caught_by: The tests that must fail by an assertion, from the folder of the tests.
    """

    guard: str
    clause: int
    changes: tuple[Change, ...]
    caught_by: tuple[str, ...]


class _List(Struct, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def load(folder: Path) -> tuple[Mutant, ...]:
    """Return the mutants of all lists in a folder."""
    lists = [msgspec.toml.decode(path.read_bytes(), type=_List) for path in sorted(folder.glob("*.toml"))]
    return tuple(mutant for each in lists for mutant in each.mutant)


def copy_packages(target: Path, changes: tuple[Change, ...] = ()) -> None:
    """Copy the packages and change the copy.

    Raises:
        Stale: A target or a pattern is not in the code.
    """
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("node_modules"))
    by_module: dict[str, list[Change]] = {}
    for change in changes:
        by_module.setdefault(change.module, []).append(change)
    for module, of_module in by_module.items():
        path = _source_of(module, target)
        path.write_text(change_source(path.read_text("utf-8"), *of_module), "utf-8")
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()


def _source_of(module: str, sources: Path) -> Path:
    names = module.split(".")
    for package in PACKAGES:
        base = sources.joinpath(package, *names)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.exists():
                return path
    raise Stale(f"there is no module {module}")


def judge(sources: Path, tests: tuple[str, ...]) -> dict[str, str]:
    """Run tests on a copy of the packages in a process of their own.

    Returns:
        The verdict of each test by its id, as in `verdicts`; those of all its cases have one id each.
    """
    report = sources / "report.json"
    ids = [str(TESTS / test) for test in tests]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # coverage is that of the code as it is
    environment["PYTHONPATH"] = os.pathsep.join(str(sources / package) for package in PACKAGES)
    program = [sys.executable, str(TESTS / "support" / "verdicts.py"), str(report), str(sources), *ids]
    done = subprocess.run(
        program, cwd=ROOT, env=environment, timeout=PATIENCE_S, capture_output=True, text=True, check=False
    )
    if not report.exists():
        return dict.fromkeys(ids, f"no report: {done.stdout[-500:]}{done.stderr[-500:]}")
    verdicts: dict[str, str] = json.loads(report.read_text())
    return verdicts


def cases(test: str, verdicts: dict[str, str]) -> list[str]:
    """Return the verdicts of all cases of a test, or of one in brackets."""
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
