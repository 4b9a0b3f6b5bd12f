"""Which web pages may open a session.

A browser sends cookies and reaches private networks for any page that asks, and WebSockets are not
bound by the same-origin policy (cross-site WebSocket hijacking, RFC 6455 section 10.2). So a page may
connect when it comes from the server itself, or from an origin that is listed. Who sends no `Origin`
is no browser.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def may_connect(
    origin: str | None, host: str | None, scheme: str, local: str, allowed: Collection[str]
) -> bool:
    """Return whether a handshake may go on.

    On a loopback address the host must be a name of the loopback too: any page can give a name of its
    own the address 127.0.0.1, and would then be of the server's origin (DNS rebinding).

    Args:
        origin: The `Origin` header, None when there is none.
        host: The `Host` header.
        scheme: The scheme that the server was reached by, `ws` or `wss`.
        local: The address of the server's side of the connection.
        allowed: Origins that may connect beside the server's own; `*` allows all.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    place = _place(f"{scheme}://{host}") if host is not None else None
    if place is None or _place(origin) != place:
        return False
    return _is_loopback(place[0]) or not _is_loopback(local)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761 section 6.3


def _place(url: str) -> tuple[str, int] | None:
    """Return host and port; None for what is no origin, such as `null`."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None
