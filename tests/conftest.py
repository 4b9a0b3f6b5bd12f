"""Loops, markers and needs of all tests.

A test marked `virtual_time` runs on a loop whose clock jumps to the next deadline when nothing is
left to do: an hour takes milliseconds, and nothing depends on how busy the machine is. Tests of the
transport, the hosts and the endpoints run on asyncio and on uvloop, whose transports and timers
differ. All others run on asyncio.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import hypothesis
import pytest
import uvloop

import machine
from virtual_time import VirtualTimeLoop

# The servers that tests start as processes keep nothing in the user's folders.
os.environ["BARGEIN_STORE"] = "none"

# A program leaves a signal alone that it was started with as ignored; tests may run under `nohup`, or as a
# background job of a shell that is not interactive.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long inputs take to make says something about the machine alone.
hypothesis.settings.register_profile("any machine", suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_frozen_for: dict[str, Path] = {}

# These measure time or memory, or take the whole machine; single tests have the marker.
_ALONE = (
    "tests/browser/test_speed.py",
    "tests/endpoints/test_residue.py",
    "tests/faults/",
    "tests/hosting/test_time_slicer.py",
    "tests/scripts/test_benchmark.py",
)

# Of the nightly ones, these need packages of gigabytes, or repeat with more seeds what others have shown.
_WEEKLY = (
    "tests/attacks/test_attacks.py",
    "tests/doors/test_chat_programs.py",
    "tests/doors/test_realtime_plugins.py",
    "tests/faults/test_chaos.py",
    "tests/other_frameworks/",
    "tests/simulation/test_cluster.py",
    "tests/simulation/test_crashes.py",
)

# These are about generated files, scripts and the form of the code.
_SAME_EVERYWHERE = ("tests/documents/", "tests/mutants/", "tests/scripts/", "tests/test_layers.py")

_ON_BOTH = ("tests/serving/", "tests/transport/", "tests/hosting/", "tests/endpoints/")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests of the page."""
    parser.addoption("--screenshots", metavar="FOLDER", help="folder for the pictures of the page")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a part of the machine, run alone, or are not about Python."""
    for item in items:
        if item.nodeid.startswith(_ALONE):
            item.add_marker(pytest.mark.alone)
        if item.nodeid.startswith(_WEEKLY) and item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.weekly)
        if item.nodeid.startswith(_SAME_EVERYWHERE):
            item.add_marker(pytest.mark.same_everywhere)
        for name in machine.needs_of(item.nodeid):
            item.add_marker(pytest.mark.needs(name))
            if machine.PARTS[name].foreign:
                item.add_marker(pytest.mark.foreign)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Freeze all that is alive before the first test of a file, and leave logging as it was.

    Each run of the garbage collector would otherwise visit all that was imported and collected, and all
    that earlier files left behind; tests that collect after every step took ten times as long.

    Commands configure logging for their process, and so do frameworks. Tests that count records would
    depend on which tests ran before.
    """
    if _frozen_for.get("file") != item.path:
        _frozen_for["file"] = item.path
        gc.collect()
        gc.freeze()
    loggers = [logging.getLogger(name) for name in ("", "bargein", "bargein_server")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    try:
        return (yield)
    finally:
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose needs the machine does not meet; fail it in CI."""
    for marker in item.iter_markers("needs"):
        reason = machine.missing(*marker.args)
        if reason is not None:
            (pytest.fail if machine.in_ci() else pytest.skip)(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that did not run on this machine, by their reasons."""
    skipped = (report.longrepr for report in terminalreporter.getreports("skipped"))
    reasons = Counter(str(each[2]).removeprefix("Skipped: ") for each in skipped if isinstance(each, tuple))
    if reasons:
        terminalreporter.section("not run on this machine")
        for reason, number in sorted(reasons.items()):
            terminalreporter.line(f"{number} tests: {reason}")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Choose the loops of a test."""
    if item.get_closest_marker("virtual_time") is not None:
        return {"virtual": VirtualTimeLoop}
    if item.nodeid.startswith(_ON_BOTH):
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.SelectorEventLoop}
