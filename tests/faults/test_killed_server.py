"""A server that is killed in the middle of a turn, and another that is started in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from bargein_client import Backoff, InputRejected, SessionRestarted, connect
from client_script import patiently, until
from processes import server

AGENT = """
import asyncio

async def talk(turn):
    while True:
        yield "word "
        await asyncio.sleep(0.01)
"""


async def test_the_client_is_told_what_was_lost_and_goes_on(tmp_path: Path) -> None:
    """`unknown_session`: the turn failed, what waited for an answer was not applied, the next input works."""
    (tmp_path / "agents.py").write_text(AGENT)
    async with server("agents:talk", tmp_path) as first:
        hasty = Backoff(base_s=0.05, cap_s=0.2)
        async with connect(first.url, backoff=hasty) as session:
            stream = session.events()
            turn = session.send("story")
            await patiently(turn.accepted())
            await until(lambda: turn.text.count("word") > 5)
            await first.kill()
            await until(lambda: session.state.name != "open")
            pending = session.send("said while nobody was there")
            async with server("agents:talk", tmp_path, port=first.port):
                ended = await patiently(turn.ended())
                assert (ended.status, ended.reason) == ("failed", "session_lost")
                with pytest.raises(InputRejected) as refused:
                    await patiently(pending.accepted())
                assert (refused.value.code, refused.value.retryable) == ("session_lost", True)
                while not isinstance(event := await patiently(anext(stream)), SessionRestarted):
                    pass
                assert event.reason == "unknown_session"
                again = session.send("again")
                await patiently(again.accepted())
                await until(lambda: "word" in again.text)
                assert (await patiently(again.interrupt())).outcome == "interrupted"
