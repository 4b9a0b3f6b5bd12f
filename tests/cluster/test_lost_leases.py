"""Processes that share a store, one of which stands still, or did and has lost its sessions."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_server.cluster import peers
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_link import Command
from bargein_server.stores.redis_store import RedisStore
from live_server import Frame, RawClient, Serving, WireKind, counting, serving
from modelled_store import ModelledLink, modelled
from redis_model import RedisModel
from two_processes import Pair
from waiting import until

BOTH = pytest.mark.parametrize("wire", ["transport", "asgi"])


@pytest.fixture(autouse=True)
def no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no node listen: all of them are one process here."""
    monkeypatch.setattr("bargein_server.hosting.membership._machine", lambda: "")


class Stores:
    """Stores of several servers on one model.

    Attributes:
        model: The model.
    """

    def __init__(self) -> None:
        self.model = RedisModel(asyncio.get_running_loop().time)

    def __call__(self) -> RedisStore:
        """Return a store for a server."""
        return modelled(RedisStore(RedisAddress((("model", 1),)), 1000.0), self.model)


class LateLink(ModelledLink):
    """A connection whose calls wait."""

    def __init__(self, model: RedisModel) -> None:
        super().__init__(model)
        self.goes_on = asyncio.Event()

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers, later."""
        await self.goes_on.wait()
        return await super().call(commands)


def resume(opened: Frame, seq: int = 0) -> Frame:
    """Return the first frame of a client that comes back."""
    cursor = {"epoch": opened["epoch"], "seq": seq}
    wanted = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
    return {"type": "session.open", "resume": wanted}


async def opened(client: RawClient, first: Frame | None = None) -> Frame:
    """Open a session and return `session.opened`."""
    await client.send(first if first is not None else {"type": "session.open"})
    return await client.until("session.opened")


def standing(server: Serving, stores: Stores) -> LateLink:
    """Let a server's store not be written, and its lease be over, as when it stands still."""
    keeper = server.sessions.keeper
    assert keeper is not None
    assert keeper.membership is not None
    assert isinstance(keeper.store, RedisStore)
    link = LateLink(stores.model)
    keeper.store._writer = link  # type: ignore[assignment]
    stores.model.call(("DEL", f"bargein:{{nodes}}:lease:{keeper.membership.name}"))
    return link


@BOTH
async def test_a_process_that_lost_a_session_looks_before_it_refuses_its_client(
    pair: Pair, wire: WireKind
) -> None:
    """It stood still, another one claimed the session meanwhile, and the client has its token."""
    stores = Stores()
    async with (
        pair(asked_wire=wire, store=stores, lease_s=1.0) as (asked, owner),
        serving(counting, store=stores()) as third,
    ):
        async with owner.connect() as client:
            session = await opened(client)
        link = standing(owner, stores)
        async with third.connect() as client:
            session = await opened(client, resume(session))
            assert session["resumed"]
        async with asked.connect() as client:
            coming = asyncio.create_task(opened(client, resume(session)))
            await until(lambda: sum(asked.node.hand_over.done.values()) == 1)
            link.goes_on.set()
            again = await coming
            assert (again["resumed"], again["session_id"]) == (True, session["session_id"])


@BOTH
async def test_a_session_comes_through_the_store_when_its_process_does_not_answer(
    pair: Pair, wire: WireKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once from a pipe; a socket that may be handed over is dropped, and its client comes again."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.2)
    async with pair(asked_wire=wire, store=Stores()) as (asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
        found = {"resumed": False, "session_id": ""}
        await owner.node.stop()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(owner.node.peers.place.path))
            silent.listen()
            for _ in range(1 if wire == "asgi" else 2):
                async with asked.connect() as client:
                    with suppress(ConnectionClosed):
                        found = await opened(client, resume(session))
            assert (found["resumed"], found["session_id"]) == (True, session["session_id"])


async def test_a_request_comes_through_the_store_when_its_process_does_not_answer(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session moves here, where the request is answered."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.2)
    async with pair(store=Stores()) as (asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
        await owner.node.stop()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(owner.node.peers.place.path))
            silent.listen()
            path = f"/v1/sessions/{session['session_id']}/interrupt"
            secret = {"Bargein-Session-Token": session["token"], "Content-Type": "application/json"}
            body = json.dumps({"type": "interrupt", "id": "x", "turn_id": "t"}).encode()
            status, _, answer = await asked.request(path, "POST", body, **secret)
            assert status == 200
            assert json.loads(answer)["outcome"] == "unknown_turn"
            assert asked.sessions.has(session["session_id"])
