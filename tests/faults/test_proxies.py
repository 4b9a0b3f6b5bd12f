"""The proxies of the deployment guide, with its configurations: TLS, a public name, WebSockets, streams."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

import bargein_protocol as bp
from client_script import patiently
from deployed import (
    NAME,
    Edit,
    block,
    deployed,
    in_frontend,
    in_place_of_listening,
    in_place_of_location,
)
from machine import find_program
from raw_websocket import frame

# Debian has Caddy since version 13; where it is missing its configuration is not run.
PROXIES = ("nginx", "haproxy", *(["caddy"] if find_program("caddy") else []))
EACH = [pytest.param(name, marks=pytest.mark.needs(name)) for name in PROXIES]
BOTH = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("nginx", "haproxy")]

T = TypeVar("T")

TOKENS = ("--tokens", "tokens")
PUBLIC = [TOKENS, ("--origin", f"https://{NAME}")]


async def converse(websocket: ClientConnection) -> None:
    """Ask, and wait for the first words of the answer."""
    await websocket.send('{"type":"input.text","id":"in_1","text":"hello"}')
    while not isinstance(
        event := bp.JSON.decode_server(await patiently(websocket.recv(decode=False))), bp.TextDelta
    ):
        pass
    assert event.text == "first "


async def first_words(http: httpx.AsyncClient, path: str, body: object, **headers: str) -> httpx.Response:
    """Request a stream; return its response after the first words, while it goes on."""
    async with http.stream("POST", path, json=body, headers=headers) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        while "first " not in await patiently(anext(lines)):
            pass
        return response


@pytest.mark.parametrize("proxy", EACH)
@pytest.mark.parametrize("options", PUBLIC, ids=["tokens", "origin"])
async def test_a_page_of_the_public_name_converses(
    proxy: str, options: tuple[str, str], tmp_path: Path
) -> None:
    """Over TLS, with the `Origin` of a browser; a page of another name is refused."""
    async with deployed(proxy, tmp_path, *options) as site:
        async with site.websocket() as websocket:
            await converse(websocket)
        with pytest.raises(InvalidStatus) as refused:
            async with site.websocket(origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("proxy", EACH)
async def test_a_stream_is_not_buffered(proxy: str, http2: bool, tmp_path: Path) -> None:
    """Its first events arrive while it goes on, of a turn and of a session that is followed.

    nginx buffers responses here; it must not buffer these.
    """
    async with deployed(proxy, tmp_path, *TOKENS) as site, site.http(http2=http2) as http:
        page = await http.get("/")
        assert page.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        async with http.stream("POST", "/v1/turns", json={"text": "hello"}) as response:
            lines = response.aiter_lines()
            seen = ""
            while "first " not in seen:
                seen += await patiently(anext(lines))
            opened = re.search(r'"session_id":"(.*?)","token":"(.*?)"', seen)
            assert opened is not None
            follow = f"/v1/sessions/{opened[1]}/events"
            async with http.stream("GET", follow, headers={"Bargein-Session-Token": opened[2]}) as follower:
                following = follower.aiter_lines()
                while "first " not in await patiently(anext(following)):
                    pass
            assert response.http_version == page.http_version


# (how the proxy treats the path, the edit of its configuration, options of the server)
STRIP: list[tuple[str, Edit, tuple[str, ...]]] = [
    ("nginx", in_place_of_location(block("nginx", "strips /chat")), ()),
    ("nginx", in_place_of_location(block("nginx", "strips /chat")), ("--root-path", "/chat")),
    ("nginx", in_place_of_location(block("nginx", "keeps /chat")), ("--root-path", "/chat/")),
    ("haproxy", in_frontend(block("haproxy", "strips /chat")), ()),
    ("haproxy", in_frontend(block("haproxy", "strips /chat")), ("--root-path", "/chat")),
    ("haproxy", lambda guide: guide, ("--root-path", "/chat")),
]
PREFIXED = [
    pytest.param(*values, marks=pytest.mark.needs(values[0]), id=f"{values[0]}-{way}")
    for values, way in zip(STRIP, ["strips", "strips-told", "keeps"] * 2, strict=True)
]


@pytest.mark.parametrize(("proxy", "edit", "options"), PREFIXED)
async def test_everything_works_under_a_path(
    proxy: str, edit: Edit, options: tuple[str, ...], tmp_path: Path
) -> None:
    """The page with all its files, the WebSocket, event streams, and the cookie that follows one."""
    async with deployed(proxy, tmp_path, *TOKENS, *options, edit=edit) as site, site.http() as http:
        async with site.websocket("/chat/v1/session") as websocket:
            await converse(websocket)
        redirect = await http.get("/chat")
        assert (redirect.status_code // 100, httpx.URL(redirect.headers["location"]).path) == (3, "/chat/")
        page = await http.get("/chat/")
        links = re.findall(r'(?:src|href)="(static/.*?)"', page.text)
        assert "static/page/main.js" in links
        for link in links:
            assert (await http.get(f"/chat/{link}")).status_code == 200
        library = await http.get("/chat/static/bargein/index.js")
        assert library.headers["content-type"].startswith("text/javascript")
        asks = {"Bargein-Cookie": "/chat"}
        response = await first_words(http, "/chat/v1/turns", {"text": "hello"}, **asks)
        session, cookie = response.headers["bargein-session"], response.headers["set-cookie"]
        assert f"Path=/chat/v1/sessions/{session};" in cookie
        assert "; Secure" in cookie
        async with http.stream("GET", f"/chat/v1/sessions/{session}/events") as follower:
            assert follower.status_code == 200  # the client has the cookie alone
        if options:
            unasked = await first_words(http, "/chat/v1/turns", {"text": "hello"}, **{"Bargein-Cookie": "/"})
            assert "Path=/chat/v1/sessions/" in unasked.headers["set-cookie"]


@pytest.mark.parametrize("proxy", BOTH)
async def test_limits_count_the_clients_of_a_proxy(proxy: str, tmp_path: Path) -> None:
    """A second connection of an address is refused, whatever it says; one of another address is not."""
    one = "--max-connections-per-address", "1"
    async with deployed(proxy, tmp_path, *TOKENS, *one) as site:
        async with site.websocket(sock=site.socket("127.0.0.2")) as websocket:
            await converse(websocket)
            claimed = {"Authorization": "Bearer secret-of-ann", "X-Forwarded-For": "192.0.2.1"}
            for headers in ({"Authorization": "Bearer secret-of-ann"}, claimed):
                with pytest.raises(InvalidStatus) as refused:
                    async with site.websocket(sock=site.socket("127.0.0.2"), additional_headers=headers):
                        pass
                assert refused.value.response.status_code == 429
            async with site.websocket(sock=site.socket("127.0.0.3")) as other:
                await converse(other)


@pytest.mark.parametrize("proxy", BOTH)
async def test_a_proxy_takes_the_proxy_protocol(proxy: str, tmp_path: Path) -> None:
    """The limits count the addresses that a load balancer reports."""
    one = "--max-connections-per-address", "1"
    edit = in_place_of_listening(block(proxy, "takes the PROXY protocol"))

    def reported(address: str) -> bytes:
        return f"PROXY TCP4 {address} 192.0.2.100 40000 443\r\n".encode()

    async with deployed(proxy, tmp_path, *TOKENS, *one, edit=edit) as site:
        async with site.websocket(sock=site.socket("127.0.0.1", reported("192.0.2.1"))) as websocket:
            await converse(websocket)
            with pytest.raises(InvalidStatus) as refused:
                async with site.websocket(sock=site.socket("127.0.0.1", reported("192.0.2.1"))):
                    pass
            assert refused.value.response.status_code == 429
            async with site.websocket(sock=site.socket("127.0.0.1", reported("192.0.2.2"))) as other:
                await converse(other)


@pytest.mark.needs("haproxy")
async def test_a_websocket_over_http2(tmp_path: Path) -> None:
    """HAProxy offers it (RFC 8441), so browsers use it for the page's connection."""
    async with deployed("haproxy", tmp_path, "--origin", f"https://{NAME}") as site:
        site.trusting.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", site.port, ssl=site.trusting, server_hostname=NAME
        )
        h2 = H2Connection()
        h2.initiate_connection()
        writer.write(h2.data_to_send())
        events: list[object] = []

        async def until(kind: type[T]) -> T:
            while not (found := [event for event in events if isinstance(event, kind)]):
                events.extend(h2.receive_data(await patiently(reader.read(2**16))))
                writer.write(h2.data_to_send())
            events.remove(found[0])
            return found[0]

        await until(RemoteSettingsChanged)
        assert h2.remote_settings.enable_connect_protocol
        stream = h2.get_next_available_stream_id()
        h2.send_headers(
            stream,
            [
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                (":path", "/v1/session"), (":authority", NAME), ("origin", f"https://{NAME}"),
                ("sec-websocket-version", "13"),
            ],
        )  # fmt: skip
        writer.write(h2.data_to_send())
        answer = await until(ResponseReceived)
        assert dict(answer.headers)[b":status"] == b"200"
        h2.send_data(stream, frame(1, b'{"type":"input.text","id":"in_1","text":"hello"}'))
        writer.write(h2.data_to_send())
        received = b""
        while b'"first "' not in received:
            received += (await until(DataReceived)).data
        writer.transport.abort()
