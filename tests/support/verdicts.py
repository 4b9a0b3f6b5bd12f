"""Command that runs tests on a copy of the packages and writes verdicts.

    python tests/support/verdicts.py REPORT SOURCES TEST …

`SOURCES` holds the copy; the report is JSON, the verdict of each test by its id. Only a failed
assertion of a test is `ASSERTION`: whatever else goes wrong, a time-out included, proves nothing about
the rule that the test is about.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

PASSED = "passed"
ASSERTION = "assertion"

TESTS = Path(__file__).parents[1]
PACKAGES = ("protocol", "server", "clients/python")


class Verdicts:
    """A plugin that remembers how each test went.

    Attributes:
        of: The verdicts by the tests' ids.
    """

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Called after each phase of a test."""
        if call.excinfo is None:
            self.of.setdefault(item.nodeid, PASSED)
        elif call.when == "call" and _is_assertion(call.excinfo, item.path):
            self.of[item.nodeid] = ASSERTION
        elif self.of.get(item.nodeid) != ASSERTION:
            self.of[item.nodeid] = f"{call.when}: {call.excinfo.exconly(tryshort=True)[:300]}"


def _is_assertion(failure: pytest.ExceptionInfo[BaseException], test: Path) -> bool:
    from waiting import TooLate

    if failure.errisinstance(TooLate):
        return False
    if failure.errisinstance(AssertionError):
        # An assertion of the package is no test's.
        failed = Path(failure.traceback[-1].path)
        return failed == test or TESTS in failed.parents
    # `pytest.raises` that saw nothing, but not pytest-timeout, which fails tests in the same way.
    return failure.errisinstance(pytest.fail.Exception) and "DID NOT RAISE" in str(failure.value)


def main(report: str, sources: str, *tests: str) -> int:
    """Run the tests and write the report; returns pytest's exit code."""
    verdicts = Verdicts()
    paths = [f"{sources}/{package}" for package in PACKAGES] + [str(TESTS), str(TESTS / "support")]
    options = [
        "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin",
        "-p", "pytest_timeout", "-o", f"pythonpath={' '.join(paths)}", "-o", "timeout=60",
    ]  # fmt: skip
    code = pytest.main([*options, *tests], plugins=[verdicts])

    import bargein_server

    assert Path(sources) in Path(bargein_server.__file__).parents, "the tests ran on other sources"
    Path(report).write_text(json.dumps(verdicts.of))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
