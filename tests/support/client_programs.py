"""Environments with programs of others that are clients of a server.

python = environment("clients")
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from machine import ROOT

WAIT_S = 600.0
"""For the packages from the index; only the first time takes longer than a moment."""


def environment(name: str) -> Path:
    """Return the folder of the programs of `.venv-NAME`, made if need be."""
    try:
        subprocess.run(
            ["scripts/setup_clients", name],
            cwd=ROOT,
            check=True,
            timeout=WAIT_S,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        pytest.fail(f"scripts/setup_clients {name}: {error.stderr}")
    return ROOT / f".venv-{name}" / "bin"
