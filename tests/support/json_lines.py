"""Programs that answer lines of JSON: one request on a line of its input, one answer on a line of its output.

with json_lines(Path("driver.js")) as driver:
answer = await driver.ask({"steps": []})
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 60.0
"""For one answer; only a failure takes this long."""


class JsonLines:
    """A program that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer, while the event loop runs on."""
        answer = await asyncio.wait_for(asyncio.to_thread(self._answer, json.dumps(request)), WAIT_S)
        if not answer:
            pytest.fail(f"the program ended: {self._process.stderr and self._process.stderr.read()}")
        found: dict[str, Any] = json.loads(answer)
        if "failed" in found:
            pytest.fail(found["failed"])
        return found

    def _answer(self, request: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(request + "\n")
        stdin.flush()
        return stdout.readline()


@contextmanager
def json_lines(script: Path, python: Path | None = None) -> Iterator[JsonLines]:
    """Run a script until the block ends.

    Args:
        script: A script of Node.js beside its `node_modules`, or one that uses `json_answers`.
        python: Its Python; None for Node.js.
    """
    command = ["node", "--no-warnings"] if python is None else [str(python), "-W", "ignore"]
    process = subprocess.Popen(
        [*command, script.name], cwd=script.parent, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "LOGURU_LEVEL": "ERROR"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield JsonLines(process)
    finally:
        process.kill()
        process.communicate()
