"""A server behind a real proxy with a configuration of the deployment guide.

async with deployed("nginx", folder, "--tokens", "tokens") as site:
    async with site.websocket("/v1/session") as websocket, site.http() as http:
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme
from websockets.asyncio.client import connect

from documentation import ROOT
from processes import free_port, server
from proxy_process import NGINX, running

NAME = "chat.example.com"
GUIDE = (ROOT / "server" / "docs" / "deploying.md").read_text("utf-8")
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

Edit = Callable[[str], str]


def block(proxy: str, comment: str = "") -> str:
    """Return a configuration of the guide: the whole one, or the part that begins with a comment."""
    first = f"# {comment}\n" if comment else ""
    found = GUIDE.partition(f"```{LANGUAGES[proxy]}\n{first}")[2].partition("```")[0]
    assert found, f"the guide has no configuration of {proxy} that {comment or 'is whole'}"
    return found


def in_place_of_location(part: str) -> Edit:
    """Return an edit that replaces the `location` of nginx."""
    return lambda guide: re.sub(r"location / \{.*\}", lambda _: part, guide)


def in_place_of_listening(part: str) -> Edit:
    """Return an edit that replaces the line that listens."""
    return lambda guide: re.sub(r"(listen 443|bind :443).*", lambda _: part.strip(), guide)


def in_frontend(part: str) -> Edit:
    """Return an edit that adds lines to the frontend of HAProxy."""
    return lambda guide: guide.replace("    default_backend", f"{part}    default_backend")


def configuration(proxy: str, folder: Path, port: int, target: int, edit: Edit) -> str:
    """Return the guide's configuration for other ports and files."""
    guide = edit(block(proxy)).replace("127.0.0.1:8000", f"127.0.0.1:{target}")
    guide = guide.replace("/etc/ssl/chat.pem", f"{folder}/chat.pem").replace("10.0.0.0/8", "127.0.0.0/8")
    if proxy == "nginx":
        return NGINX.format(
            folder=folder, servers=guide.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        )
    if proxy == "caddy":
        guide = guide.replace("{\n", f"{{\n    tls {folder}/chat.pem {folder}/chat.pem\n", 1)
        return CADDY.format(port=port, guide=guide)
    return guide.replace("bind :443", f"bind 127.0.0.1:{port}")


class Site:
    """A server behind a proxy, under its public name.

    Attributes:
        port: Where the proxy listens on 127.0.0.1.
        trusting: Trusts the certificate of the name.
    """

    def __init__(self, port: int, trusting: ssl.SSLContext) -> None:
        self.port = port
        self.trusting = trusting

    def websocket(
        self, path: str = "/v1/session", origin: str = f"https://{NAME}", **options: Any
    ) -> connect:
        """Connect as a page of an origin."""
        if "sock" not in options:
            options.update(host="127.0.0.1", port=self.port)
        options.setdefault("additional_headers", {"Authorization": "Bearer secret-of-ann"})
        return connect(
            f"wss://{NAME}{path}", ssl=self.trusting, server_hostname=NAME, proxy=None,
            origin=origin,  # type: ignore[arg-type]
            **options,
        )  # fmt: skip

    def socket(self, address: str, first: bytes = b"") -> socket.socket:
        """Return a TCP connection from an address of this machine, after some first bytes."""
        sock = socket.create_connection(("127.0.0.1", self.port), source_address=(address, 0))
        sock.sendall(first)
        sock.setblocking(False)
        return sock

    @asynccontextmanager
    async def http(self, *, http2: bool = False) -> AsyncIterator[httpx.AsyncClient]:
        """Make HTTP requests; paths are relative to the name."""
        transport = httpx.AsyncHTTPTransport(verify=self.trusting, http2=http2)
        async with httpx.AsyncClient(
            transport=_ToPort(transport, self.port), base_url=f"https://{NAME}", timeout=10,
            headers={"Authorization": "Bearer secret-of-ann"},
        ) as client:  # fmt: skip
            yield client


class _ToPort(httpx.AsyncBaseTransport):
    """Transport that sends the requests for the public name to a port of this machine."""

    def __init__(self, transport: httpx.AsyncBaseTransport, port: int) -> None:
        self._transport = transport
        self._port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host="127.0.0.1", port=self._port),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": NAME},
            )
        )

    async def aclose(self) -> None:
        await self._transport.aclose()


@asynccontextmanager
async def deployed(
    proxy: str, folder: Path, *options: str, edit: Edit = lambda guide: guide
) -> AsyncIterator[Site]:
    """Run a server behind a proxy.

    Args:
        proxy: The program.
        folder: Where its files are.
        options: Of `bargein-server`.
        edit: Changes the guide's configuration.
    """
    (folder / "agents.py").write_text(AGENT)
    (folder / "tokens").write_text("ann secret-of-ann\n")
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    authority.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(folder / "chat.pem")
    port = free_port()
    async with (
        server("agents:agent", folder, *options) as behind,
        running(proxy, configuration(proxy, folder, port, behind.port, edit), folder, port),
    ):
        yield Site(port, trusting)
