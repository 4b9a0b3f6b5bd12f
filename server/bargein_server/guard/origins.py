"""Which web pages may open a session.

A browser sends cookies and reaches private networks for any page that asks, and WebSockets are not
bound by the same-origin policy (cross-site WebSocket hijacking, RFC 6455 section 10.2). So a page may
connect when it comes from the server itself, or from an origin that is listed. Who sends no `Origin`
is no browser.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def may_connect(origin: str | None, host: str | None, scheme: str, allowed: Collection[str]) -> bool:
    """Return whether a handshake may go on.

    Args:
        origin: The `Origin` header, None when there is none.
        host: The `Host` header.
        scheme: The scheme that the server was reached by, `ws` or `wss`.
        allowed: Origins that may connect beside the server's own; `*` allows all.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return host is not None and _place(origin) == _place(f"{scheme}://{host}") is not None


def _place(url: str) -> tuple[str, int] | None:
    """Return host and port; None for what is no origin, such as `null`."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None
