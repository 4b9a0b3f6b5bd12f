"""`POST /v1/sessions/{id}/token`: a user's own conversation on another device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bargein_server import BearerTokens
from live_server import Serving, ask, counting, echo, serving

TOKENS = BearerTokens({"a": "ann", "b": "bob"})


async def token(server: Serving, session_id: str, credential: str | None) -> tuple[int, dict[str, Any]]:
    """Ask for a token."""
    headers: dict[str, Any] = {} if credential is None else {"Authorization": f"Bearer {credential}"}
    status, _, body = await server.request(f"/v1/sessions/{session_id}/token", "POST", **headers)
    return status, json.loads(body)


async def test_a_conversation_goes_on_elsewhere(tmp_path: Path) -> None:
    """From the store or from memory: its inputs, its turns, and its history."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, authenticator=TOKENS, store=url) as server, server.connect() as client:
        await client.send({"type": "session.open", "auth": "a"})
        session_id = (await client.until("session.opened"))["session_id"]
        await ask(client, "hello")
        await client.until("turn.ended")
    async with serving(echo, authenticator=TOKENS, store=url) as server:
        for _ in range(2):
            status, granted = await token(server, session_id, "a")
            assert status == 200
            assert granted["inputs"] == [{"input_id": "i1", "text": "hello", "files": []}]
        cursor = {"epoch": granted["epoch"], "seq": 0}
        resume = {"session_id": session_id, "token": granted["token"], "cursor": cursor}
        async with server.connect() as client:
            await client.send({"type": "session.open", "auth": "a", "resume": resume})
            assert (await client.until("session.opened"))["resumed"]
            (turn,) = (await client.until("snapshot"))["turns"]
            assert (turn["input_id"], turn["status"]) == ("i1", "completed")


async def test_a_token_that_nobody_uses_takes_nothing(tmp_path: Path) -> None:
    """The client that has the session speaks on, loses its line, and resumes with its own token."""
    async with serving(echo, authenticator=TOKENS, store=f"sqlite:///{tmp_path}/kept.db") as server:
        async with server.connect() as client:
            await client.send({"type": "session.open", "auth": "a"})
            opened = await client.until("session.opened")
            for _ in range(2):
                assert (await token(server, opened["session_id"], "a"))[0] == 200
            await ask(client, "hello")
            await client.until("turn.ended")
        cursor = {"epoch": opened["epoch"], "seq": 0}
        resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
        async with server.connect() as client:
            await client.send({"type": "session.open", "auth": "a", "resume": resume})
            assert (await client.until("session.opened"))["resumed"]


async def test_only_the_owner_gets_one(tmp_path: Path) -> None:
    """Other users and clients without a credential learn nothing, and the owner's client stays."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(counting, authenticator=TOKENS, store=url) as server, server.connect() as client:
        await client.send({"type": "session.open", "auth": "a"})
        session_id = (await client.until("session.opened"))["session_id"]
        assert (await token(server, session_id, "b"))[0] == 404
        assert (await token(server, session_id, None))[0] == 401
        assert (await token(server, "s_unknown", "a"))[0] == 404
        await ask(client, "still here")
    async with serving(echo) as server, server.connect() as client:
        await client.send({"type": "session.open"})
        session_id = (await client.until("session.opened"))["session_id"]
        assert (await token(server, session_id, None))[0] == 403
