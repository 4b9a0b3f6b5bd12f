"""Every Python example of the client's guides runs."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bargein_client import connect
from bargein_server import Output, Turn
from client_script import patiently
from live_server import serving

PYTHON = Path(__file__).parents[2] / "clients" / "python"
URL = "ws://localhost:8000"
EXAMPLES = [
    pytest.param(block, id=f"{guide.name} {number}")
    for guide in (PYTHON / "README.md", PYTHON / "docs" / "guide.md")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL))
]


async def narrator(turn: Turn) -> AsyncIterator[Output]:
    """Narrate a story of many words, or greet."""
    if turn.text == "Hello":
        yield "Good morning"
        return
    for number in range(200):
        yield f"word{number} "
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A program runs as it is; any other example runs inside a session."""
    scope: dict[str, Any] = {}
    async with serving(narrator) as server:
        if "async def main" in example:
            program = example.replace(URL, server.url).replace("asyncio.run(main())", "")
            exec(compile(program, "guide", "exec"), scope)
            await patiently(scope["main"]())
        else:
            body = textwrap.indent(example, "    ")
            exec(compile(f"async def example(session):\n{body}", "guide", "exec"), scope)
            async with connect(server.url) as session:
                await patiently(scope["example"](session))
    assert "print" not in example or capsys.readouterr().out


async def test_the_first_example_prints_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    """Typed events, of which the last one is the end."""
    async with serving(narrator) as server:
        program = EXAMPLES[0].values[0].replace(URL, server.url).replace("asyncio.run(main())", "")  # type: ignore[union-attr]
        scope: dict[str, Any] = {}
        exec(compile(program, "guide", "exec"), scope)
        await patiently(scope["main"]())
    lines = capsys.readouterr().out.splitlines()
    assert "TextDelta" in lines[-2]
    assert "TurnEnded" in lines[-1]
