"""Every guard is missed when it is taken out: by an assertion of a test of its own clause."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_change import Change, Stale
from mutation import ROOT, Mutant, cases, copy_packages, judge, load, survives
from verdicts import ASSERTION, PASSED

MUTANTS = load(Path(__file__).parent)
CLAUSES = 13

HARMLESS = "contract/test_fence.py::test_what_waited_is_purged"
EMIT = "bargein_server.core.session:Session.emit"


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_with_every_guard_the_tests_pass(tmp_path: Path) -> None:
    """Those of all mutants, on an unchanged copy; once, and not before each mutant."""
    copy_packages(tmp_path)
    tests = tuple(sorted({test for mutant in MUTANTS for test in mutant.caught_by}))
    verdicts = judge(tmp_path, tests)
    for test in tests:
        of_test = cases(test, verdicts)
        assert of_test, f"there is no test {test}"
        assert set(of_test) == {PASSED}, (test, of_test)


@pytest.mark.nightly
@pytest.mark.timeout(600)  # a mutant may hang until the timeouts of its tests
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.clause}: {mutant.guard}")
def test_a_guard_that_is_taken_out_is_missed(mutant: Mutant, tmp_path: Path) -> None:
    """A test that passes with the guard fails by an assertion without it."""
    copy_packages(tmp_path, mutant.changes)
    verdicts = judge(tmp_path, mutant.caught_by)
    assert [why for test in mutant.caught_by if (why := survives(test, verdicts))] == []


def test_every_clause_has_its_mutants() -> None:
    """None of the contract's clauses is without a guard that is known to be tested."""
    assert {mutant.clause for mutant in MUTANTS} >= set(range(1, CLAUSES + 1))
    contract = (ROOT / "protocol" / "CONTRACT.md").read_text("utf-8")
    assert f"\n{CLAUSES}. **" in contract
    assert f"\n{CLAUSES + 1}. **" not in contract


@pytest.mark.parametrize(
    ("enter", "why"),
    [
        ("pass", "passed without the guard"),
        ("raise RuntimeError", "failed by something else than an assertion"),
        ("assert False", "failed by something else than an assertion"),
        ("nonlocal missing", "0 cases ran"),
    ],
    ids=["harmless", "an error", "an assertion of the package", "it cannot be imported"],
)
def test_the_check_sees_a_survivor(enter: str, why: str, tmp_path: Path) -> None:
    """A failure other than by an assertion proves nothing."""
    copy_packages(tmp_path, (Change(target=EMIT, enter=enter),))
    reason = survives(HARMLESS, judge(tmp_path, (HARMLESS,)))
    assert reason is not None
    assert why in reason


FAILING = """
import pytest
from waiting import TooLate

def test_assertion(): assert 1 == 2
def test_nothing_raised():
    with pytest.raises(ValueError): pass
def test_passed(): pass
def test_too_late(): raise TooLate
def test_error(): raise ValueError
def test_failed(): pytest.fail("x")
@pytest.mark.timeout(0.01)
def test_time_out():
    while True: pass
@pytest.fixture
def broken(): assert False
def test_fixture(broken): pass
"""


def test_only_a_failed_assertion_of_a_test_counts(tmp_path: Path) -> None:
    """Not a time-out, not an error, and not what a fixture asserts."""
    copy_packages(tmp_path)
    (tmp_path / "test_failing.py").write_text(FAILING)
    verdicts = judge(tmp_path, (str(tmp_path / "test_failing.py"),))
    names = {verdict: set[str]() for verdict in (PASSED, ASSERTION)}
    for test, verdict in verdicts.items():
        names.setdefault(verdict, set()).add(test.partition("::test_")[2])
    assert names[ASSERTION] == {"assertion", "nothing_raised"}
    assert names[PASSED] == {"passed"}
    assert len(verdicts) == 8


@pytest.mark.parametrize(
    "change",
    [
        Change(target=EMIT, remove="self.no_such_guard()"),
        Change(target=EMIT, remove="return False; return True"),
        Change(target="bargein_server.core.session:Session.no_such_method", enter="return"),
        Change(target="bargein_server.no_such_module:f", enter="return"),
    ],
    ids=["code", "statements", "method", "module"],
)
def test_the_check_sees_a_stale_entry(change: Change, tmp_path: Path) -> None:
    """The code of a guard stands in its function exactly once."""
    with pytest.raises(Stale):
        copy_packages(tmp_path, (change,))
