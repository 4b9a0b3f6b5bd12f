"""Servers other than `bargein-server`: what they leave out, the application does."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import InvalidStatus

from bargein_server import BearerTokens, Settings, create_app
from documentation import ROOT
from live_server import echo
from other_servers import COMMANDS, LIMITS, TIGHT, running
from plain_server import closed, serving_app

LIMIT = 4096


class WithoutExtensions:
    """An application on a server that offers no extension of ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.pop("extensions", None)
        await self._app(scope, receive, send)


async def test_the_limit_of_a_frame_holds_under_any_server() -> None:
    """Uvicorn itself accepts 16 MiB."""
    app = create_app(echo, Settings(max_frame_bytes=LIMIT))
    async with serving_app(app, "uvicorn's") as served, served.connect("/v1/session") as client:
        frame = {"type": "input.text", "id": "in_1", "text": ""}
        room = LIMIT - len(json.dumps(frame))
        await client.send(json.dumps({**frame, "text": "x" * room}))
        while json.loads(await client.recv())["type"] != "turn.ended":
            pass
        await client.send(json.dumps({**frame, "text": "x" * (room + 1)}))
        assert (await closed(client))[0] == 1009


@pytest.mark.parametrize("path", ["/v1/session", "/nowhere"])
async def test_a_refusal_without_the_denial_extension(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is a plain 403, and no error of the server."""
    caplog.set_level(logging.WARNING)
    app = WithoutExtensions(create_app(echo, authenticator=BearerTokens({"secret": "ann"})))
    async with serving_app(app, "uvicorn's") as served:
        with pytest.raises(InvalidStatus) as refused:
            async with served.connect(path, additional_headers={"Authorization": "Bearer wrong"}):
                pass
    assert refused.value.response.status_code == 403
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def table() -> dict[str, dict[str, str]]:
    """Return the table of the deployment guide: by limit, by server, `yes` or `no`."""
    guide = (ROOT / "server" / "docs" / "deploying.md").read_text("utf-8")
    rows = guide.partition("| limit | ")[2].partition("\n\n")[0].splitlines()
    servers, _, *rest = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]
    return {limit: dict(zip(servers, cells, strict=True)) for limit, *cells in rest}


def test_the_table_has_every_limit_and_server() -> None:
    """Each limit is tested."""
    tested = {limit for probes in LIMITS.values() for limit in probes}
    assert tested == set(table())
    for limit, cells in table().items():
        assert list(cells) == list(COMMANDS)
        assert set(cells.values()) <= {"yes", "no"}, limit


@pytest.mark.nightly
@pytest.mark.same_everywhere
@pytest.mark.needs("proc")
@pytest.mark.parametrize("settings", LIMITS)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_limits_is_measured(name: str, settings: str, tmp_path: Path) -> None:
    """Each server keeps the limits that the guide says, and no others."""
    kept = asyncio.run(measure(name, settings, tmp_path))
    measured = {limit: "yes" if held else "no" for limit, held in kept.items()}
    assert measured == {limit: table()[limit][name] for limit in LIMITS[settings]}


async def measure(name: str, settings: str, folder: Path) -> dict[str, bool]:
    """Return whether a server keeps each limit that is tested with some settings."""
    probes = LIMITS[settings]
    async with running(name, folder, settings) as server:
        if settings == TIGHT:
            kept = await asyncio.gather(*(probe(server) for probe in probes.values()))
        else:
            kept = [await probe(server) for probe in probes.values()]
    return dict(zip(probes, kept, strict=True))
