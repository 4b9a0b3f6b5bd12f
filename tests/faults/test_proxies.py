"""The proxies of the deployment guide, with its configurations: TLS, a public name, WebSockets, streams."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import bargein_protocol as bp
from client_script import patiently
from documentation import ROOT
from machine import find_program
from processes import free_port, server
from proxy_process import NGINX, running

NAME = "chat.example.com"
GUIDE = (ROOT / "server" / "docs" / "deploying.md").read_text("utf-8")
# Debian has Caddy since version 13; where it is missing its configuration is not run.
PROXIES = ("nginx", "haproxy", *(["caddy"] if find_program("caddy") else []))
EACH = [pytest.param(name, marks=pytest.mark.needs(name)) for name in PROXIES]
LANGUAGES = {"nginx": "nginx", "caddy": "caddyfile", "haproxy": "haproxy"}

AGENT = """
import asyncio

async def agent(turn):
    yield "first "
    await asyncio.sleep(60)
"""

CADDY = """
{{
    admin off
    auto_https disable_redirects
    https_port {port}
    default_bind 127.0.0.1
}}
{guide}
"""


def configuration(proxy: str, folder: Path, port: int, target: int) -> str:
    """Return the guide's configuration for other ports and files."""
    guide = GUIDE.partition(f"```{LANGUAGES[proxy]}\n")[2].partition("```")[0]
    assert guide, f"the guide has no configuration of {proxy}"
    guide = guide.replace("127.0.0.1:8000", f"127.0.0.1:{target}").replace(
        "/etc/ssl/chat.pem", f"{folder}/chat.pem"
    )
    if proxy == "nginx":
        return NGINX.format(
            folder=folder, servers=guide.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        )
    if proxy == "caddy":
        guide = guide.replace("{\n", f"{{\n    tls {folder}/chat.pem {folder}/chat.pem\n", 1)
        return CADDY.format(port=port, guide=guide)
    return guide.replace("bind :443", f"bind 127.0.0.1:{port}")


@asynccontextmanager
async def deployed(proxy: str, folder: Path, *options: str) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """Run a server behind a proxy."""
    (folder / "agents.py").write_text(AGENT)
    (folder / "tokens").write_text("ann secret-of-ann\n")
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    authority.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(folder / "chat.pem")
    port = free_port()
    async with (
        server("agents:agent", folder, *options) as behind,
        running(proxy, configuration(proxy, folder, port, behind.port), folder, port),
    ):
        yield port, trusting


PUBLIC = [("--tokens", "tokens"), ("--origin", f"https://{NAME}")]


@pytest.mark.parametrize("proxy", EACH)
@pytest.mark.parametrize("options", PUBLIC, ids=["tokens", "origin"])
async def test_a_page_of_the_public_name_converses(
    proxy: str, options: tuple[str, str], tmp_path: Path
) -> None:
    """Over TLS, with the `Origin` of a browser; a page of another name is refused."""
    async with deployed(proxy, tmp_path, *options) as (port, trusting):

        def socket(origin: str) -> connect:
            return connect(
                f"wss://{NAME}/v1/session", host="127.0.0.1", port=port, ssl=trusting, proxy=None,
                origin=origin,  # type: ignore[arg-type]
                additional_headers={"Authorization": "Bearer secret-of-ann"},
            )  # fmt: skip

        async with socket(f"https://{NAME}") as websocket:
            await websocket.send('{"type":"input.text","id":"in_1","text":"hello"}')
            while not isinstance(
                event := bp.JSON.decode_server(await patiently(websocket.recv(decode=False))), bp.TextDelta
            ):
                pass
            assert event.text == "first "
        with pytest.raises(InvalidStatus) as refused:
            async with socket("https://evil.example"):
                pass
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("proxy", EACH)
async def test_a_stream_is_not_buffered(proxy: str, tmp_path: Path) -> None:
    """Its first events arrive while it goes on."""
    async with deployed(proxy, tmp_path, "--tokens", "tokens") as (port, trusting):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=NAME)
        body = b'{"text":"hello"}'
        writer.write(
            f"POST /v1/turns HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer secret-of-ann\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await patiently(reader.readuntil(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 200"), head
        await patiently(reader.readuntil(b'"first "'))
        writer.transport.abort()
