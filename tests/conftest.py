"""Which event loops a test runs on.

A test marked `virtual_time` runs on a loop whose clock jumps to the next deadline when nothing is
left to do: an hour takes milliseconds, and nothing depends on how busy the machine is. Tests of the
transport, the hosts and the endpoints run on asyncio and on uvloop, whose transports and timers differ. All
others run on asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from virtual_time import VirtualTimeLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_ON_BOTH = ("tests/serving/", "tests/transport/", "tests/hosting/", "tests/endpoints/")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", "virtual_time: run on a loop whose clock is virtual")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests of the page."""
    parser.addoption("--screenshots", metavar="FOLDER", help="where the pictures of the page are kept")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Choose the loops of a test."""
    if item.get_closest_marker("virtual_time") is not None:
        return {"virtual": VirtualTimeLoop}
    if item.nodeid.startswith(_ON_BOTH):
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.SelectorEventLoop}
