"""Errors of failed connections, with their causes."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from bargein_client import ConnectError, connect
from bargein_client.cli.command import main
from terminal_session import on_pipes


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("nonsense", "the proxy in the environment is not a valid URL"),
        ("http://[", "the proxy in the environment is not a valid URL"),
        ("ftp://proxy.test:1", "the proxy in the environment is not a valid URL"),
        ("socks5://127.0.0.1:9", "a SOCKS proxy needs the package python-socks"),
    ],
)
def test_a_proxy_that_cannot_be_used(
    proxy: str, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the cause; the network is not used."""
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    assert main(["send", "wss://server.test", "x"]) == 1
    assert capsys.readouterr().err == (f"bargein: cannot connect to wss://server.test/v1/session: {why}\n")


@pytest.mark.parametrize(
    ("speaks_tls", "why"),
    [
        (True, "the server's certificate is not trusted: unable to get local issuer certificate"),
        (False, "the TLS handshake failed: wrong version number"),
    ],
)
async def test_a_server_whose_tls_is_of_no_use(speaks_tls: bool, why: str) -> None:
    """The message names the cause, which is not a proxy."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0, ssl=tls if speaks_tls else None)
    async with server:
        url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with on_pipes("send", url, "hello") as process:
            async with asyncio.timeout(30):
                _, errors = await process.communicate()
    assert errors.decode() == f"bargein: cannot connect to {url}/v1/session: {why}\n"
    assert process.returncode == 1


async def test_a_server_that_redirects_to_https() -> None:
    """The message has the address to connect to."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 301 Moved\r\nLocation: https://server.test/v1/session\r\nContent-Length: 0\r\n\r\n"
        )
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectError) as caught:
            async with connect(url):
                pass
    assert caught.value.why == (
        "the server redirects to https://server.test/v1/session; connect to that address"
    )
