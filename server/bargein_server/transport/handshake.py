"""Opening and closing handshake of a WebSocket.

The module makes the scope and the responses of the opening handshake (RFC 6455 section 4), and close
frames (section 5.5.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from starlette.types import Scope
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Request, Response

_MAX_REASON_BYTES = 123  # a control frame has 125 bytes, and the code takes two of them

_HANDSHAKE = (
    "Connection", "Upgrade", "Origin", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol", "Sec-WebSocket-Version",
)  # fmt: skip

RawHeaders = Iterable[tuple[bytes, bytes]]


def compression() -> ServerPerMessageDeflateFactory:
    """Return the offer of per-message deflate (RFC 7692).

    The parameters are those of uvicorn. With the default ones of zlib a connection takes four times the
    memory.
    """
    return ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )


def replace_odd_bytes(headers: Headers) -> None:
    """Replace characters beyond ASCII in the handshake's own fields.

    websockets before 17 cannot encode it, neither to check a key nor in the answer that refuses it, and
    would answer 500.
    """
    for name in _HANDSHAKE:
        values = headers.get_all(name)
        if not all(map(str.isascii, values)):
            del headers[name]
            for value in values:
                headers[name] = value.encode("ascii", "replace").decode()


def websocket_scope(
    request: Request, transport: asyncio.Transport, root_path: str, asgi_version: str, state: dict[str, Any]
) -> Scope:
    """Return the connection scope of a request (ASGI, WebSocket 2.4).

    Args:
        request: The request.
        transport: The transport on which it came.
        root_path: Path under which the application is mounted.
        asgi_version: Version of the application interface.
        state: State of the lifespan; the scope gets a copy.
    """
    raw_path, _, query = request.path.partition("?")
    protocols = request.headers.get_all("Sec-WebSocket-Protocol")
    return {
        "type": "websocket",
        "asgi": {"version": asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss" if transport.get_extra_info("sslcontext") else "ws",
        "server": _address(transport, "sockname"),
        "client": _address(transport, "peername"),
        "root_path": root_path,
        "path": root_path + unquote(raw_path),
        "raw_path": (root_path + raw_path).encode("ascii"),
        "query_string": query.encode("ascii"),
        # websockets before 17 decodes bytes beyond ASCII to surrogates, and 17 as Latin-1.
        "headers": [
            (name.lower().encode("ascii"), value.encode("latin-1", "surrogateescape"))
            for name, value in request.headers.raw_items()
        ],
        "subprotocols": [item.strip() for value in protocols for item in value.split(",")],
        "state": state.copy(),
        "extensions": {"websocket.http.response": {}},
    }


def complete(response: Response, subprotocol: str | None, default: RawHeaders, own: RawHeaders) -> None:
    """Add headers to the response that accepts a handshake.

    Args:
        response: The response of `ServerProtocol.accept`.
        subprotocol: The subprotocol that the application chose.
        default: Headers that the server adds to every response.
        own: Headers of the application.
    """
    del response.headers["Date"]  # `default` contains it if it is configured
    if subprotocol:
        response.headers["Sec-WebSocket-Protocol"] = subprotocol
    for name, value in (*default, *own):
        response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")


def denial(status: int, headers: RawHeaders, body: bytes) -> Response:
    """Return an HTTP response that denies a handshake.

    It is that of the ASGI extension `websocket.http.response`.
    """
    fields = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
    added = [("Date", formatdate(usegmt=True)), ("Connection", "close")]
    if status in (204, 304):  # such a response has no content (RFC 9110 section 6.4.1)
        body = b""
        del fields["Content-Length"]
    else:
        added += [("Content-Length", str(len(body))), ("Content-Type", "text/plain; charset=utf-8")]
    for name, value in added:
        if name not in fields:
            fields[name] = value
    return Response(status, _phrase(status), fields, body)


def short_reason(reason: str) -> str:
    """Return the part of a reason that fits into a close frame."""
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


def close_frame(close: Close) -> bytes:
    """Return the close frame that echoes a peer's code and reason."""
    payload = b"" if close.code == CloseCode.NO_STATUS_RCVD else close.serialize()
    return Frame(Opcode.CLOSE, payload).serialize(mask=False)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _address(transport: asyncio.Transport, end: str) -> tuple[str, int | None] | None:
    # A socket has both names, also a UNIX socket; some loops give none for UNIX sockets.
    connected = transport.get_extra_info("socket")
    if connected is None:
        name = transport.get_extra_info(end)
    else:
        try:
            name = connected.getpeername() if end == "peername" else connected.getsockname()
        except OSError:  # the peer is gone already
            return None
    if isinstance(name, (tuple, list)):
        return str(name[0]), int(name[1])
    return (name, None) if isinstance(name, str) and name and end == "sockname" else None
