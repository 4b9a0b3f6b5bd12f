"""A private folder for the sockets of processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import two_processes
from two_processes import Pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that only this user can enter."""
    private = tmp_path / "w"
    private.mkdir(mode=0o700)
    return private


@pytest.fixture
def pair(folder: Path) -> Pair:
    """Return what runs two servers that share their sessions."""
    return partial(two_processes.pair, folder)
