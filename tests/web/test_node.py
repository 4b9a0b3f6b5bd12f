"""The tests of the JavaScript client on Node.js; one test per file."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(Path(__file__).parent.glob("*.test.js"))
SOURCES = [ROOT / "protocol", ROOT / "server", ROOT / "clients" / "python"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
async def test_a_file(file: Path) -> None:
    """Every test in it passes, with the server of this very tree."""
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}
    process = await asyncio.create_subprocess_exec(
        "node", "--test", "--test-reporter=spec", str(file),
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
