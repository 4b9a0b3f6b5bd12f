"""Pages that may connect, by their origins.

A browser sends cookies and reaches private networks for any page, and the same-origin policy does not
cover WebSockets (cross-site WebSocket hijacking, RFC 6455 section 10.2). So a page may connect when it
comes from the server itself or from a listed origin. A request without `Origin` is not from a browser.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

log = logging.getLogger("bargein.server")

_MAX_LOGGED = 64
"""Further origins are refused without a log line: their number is the clients' choice."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class BadOrigin(ValueError):
    """An origin to allow is none; the message has the expected form."""


class PageOrigins:
    """Origins of the pages that may connect to a server.

    Args:
        origins: Origins beside the server's own.

    Raises:
        BadOrigin: One is not an origin.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._allowed = allowed_origins(origins)
        self._logged: set[str] = set()

    def allow(self, origin: str | None, host: str | None, scheme: str, local: str) -> bool:
        """Return whether a handshake may go on; see `may_connect`."""
        return may_connect(origin, host, scheme, local, self._allowed)

    def log_refused(self, origin: str, host: str) -> None:
        """Log a refused page and the remedy, once for each origin."""
        origin = origin[:256]
        if origin not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(origin)
            log.warning(
                "pages of %r may not connect, because the server was reached as %r; "
                "to allow it: --origin %r or origins=[%r]; a proxy in between must pass the Host header on",
                origin, host[:256], origin, origin,
            )  # fmt: skip


def allowed_origins(origins: Collection[str]) -> frozenset[str]:
    """Return origins in the form of browsers (RFC 6454 section 6.2).

    Raises:
        BadOrigin: One is not an origin.
    """
    return frozenset(map(_serialized, origins))


def _serialized(origin: str) -> str:
    if origin in ("*", "null"):  # any page; a page in a sandbox
        return origin
    try:
        parts = urlsplit(origin.strip())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if not host or not parts.scheme or parts.path.strip("/") or parts.query or parts.username is not None:
        raise BadOrigin(f"expected an origin such as https://example.com, got {origin!r}")
    host = f"[{host}]" if ":" in host else host
    shown = "" if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def may_connect(
    origin: str | None, host: str | None, scheme: str, local: str, allowed: Collection[str]
) -> bool:
    """Return whether a handshake may go on.

    On a loopback address the host must be a loopback name too: the owner of any page can let a name of
    its own resolve to 127.0.0.1, and would then have the server's origin (DNS rebinding).

    Args:
        origin: The `Origin` header, None when there is none.
        host: The `Host` header, None when there is none.
        scheme: The scheme of the request, `ws` or `wss`.
        local: The server's address.
        allowed: Origins that may connect, beside the server's own; `*` allows all.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    place = _place(f"{scheme}://{host}") if host is not None else None
    if place is None or not _same_place(origin, host or "", place):
        return False
    return _is_loopback(place[0]) or not _is_loopback(local)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761 section 6.3


def _same_place(origin: str, host: str, place: tuple[str, int]) -> bool:
    """Return whether a page has the host and port of a request.

    A proxy that ends TLS need not say so: the page is then the one with https.
    """
    return _place(origin) == place or origin.lower() == f"https://{host}".lower()


def _place(url: str) -> tuple[str, int] | None:
    """Return host and port of an origin; None for `null` and malformed ones."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None
