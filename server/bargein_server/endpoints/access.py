"""The part of a request that an authenticator sees."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection

from ..guard.authentication import AccessRequest

_ASGI = {
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path",
    "headers", "client", "server", "extensions", "subprotocols", "app", "router", "endpoint", "path_params",
}  # fmt: skip
"""Keys of a scope that are of ASGI and of our own application."""


def access_request(connection: HTTPConnection) -> AccessRequest:
    """Return the part of a request or handshake that authenticators see."""
    query = connection.scope.get("query_string", b"").decode("latin-1")
    return AccessRequest(
        path=connection.url.path,
        address=connection.client.host if connection.client is not None else None,
        headers=connection.headers,
        cookies=connection.cookies,
        query_names=tuple(dict.fromkeys(name for name, _ in parse_qsl(query, keep_blank_values=True))),
        context={name: value for name, value in connection.scope.items() if name not in _ASGI},
    )
