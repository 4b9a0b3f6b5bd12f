"""Addresses of Redis and Valkey: their URLs, and connections to them."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

CONNECT_S = 2.0
"""Time to connect."""

REDIS_FORMS = "redis://host:6379/0, rediss://user:password@host, redis+sentinel://host:26379,host/name"
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
PORT, SENTINEL_PORT = 6379, 26379

_CHECKS = ("full", "chain", "none")
_FILES = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}


class RedisAddress(Struct, frozen=True):
    """Address of a server, or of its sentinels.

    Args:
        hosts: Hosts with their ports.
        username: The user; empty for the default one.
        password: The password; empty without one.
        db: Number of the database.
        prefix: Start of every key.
        service: Name of the primary at the sentinels; empty without them.
        tls: Options of TLS; None without it.
    """

    hosts: tuple[tuple[str, int], ...]
    username: str = ""
    password: str = ""
    db: int = 0
    prefix: str = "bargein:"
    service: str = ""
    tls: tuple[tuple[str, str], ...] | None = None

    def __str__(self) -> str:
        names = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.service} of the sentinels {names}" if self.service else f"Redis at {names}"

    def connector(self) -> Connector:
        """Return a maker of connections."""
        return Connector(self, self._options())

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "db": self.db,
            "username": self.username or None,
            "password": self.password or None,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        if self.tls is not None:
            given = dict(self.tls)
            check = given.pop("verify", "full")
            options |= {_FILES[name]: path for name, path in given.items()}
            options["ssl_cert_reqs"] = "none" if check == "none" else "required"
            options["ssl_check_hostname"] = check == "full"
            options["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
        return options


class Connector:
    """Maker of connections to a server, or to its sentinels' primary.

    Args:
        address: The server.
        options: Options of its connections.
    """

    def __init__(self, address: RedisAddress, options: dict[str, Any]) -> None:
        self._sentinel: Sentinel | None = None
        self._pool: ConnectionPool
        if address.service:
            plain = {"socket_timeout": CONNECT_S, "socket_connect_timeout": CONNECT_S}
            self._sentinel = Sentinel(address.hosts, sentinel_kwargs=plain)
            ssl = address.tls is not None
            self._pool = SentinelConnectionPool(address.service, self._sentinel, ssl=ssl, **options)
        else:
            kind = Connection if address.tls is None else SSLConnection
            host, port = address.hosts[0]
            self._pool = ConnectionPool(connection_class=kind, host=host, port=port, **options)

    def make(self) -> AbstractConnection:
        """Return a connection that is not connected yet."""
        made: AbstractConnection = self._pool.make_connection()
        return made

    async def close(self) -> None:
        """Close the connections to sentinels."""
        if self._sentinel is not None:
            for each in self._sentinel.sentinels:
                await each.aclose()


def address_of(url: str) -> RedisAddress | None:
    """Return the address of a URL, None when it has another form.

    Args:
        url: Such as `redis://user:password@host:6379/0?prefix=shop:`. With TLS (`rediss`), `ca`, `cert` and
            `key` name files, and `verify=chain` does not check the host's name, `verify=none` nothing. With
            sentinels, several hosts and the name of the primary.
    """
    try:
        parts = urlsplit(url)
        sentinels = parts.scheme.endswith("+sentinel")
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        path = [unquote(each) for each in parts.path.split("/")[1:] if each]
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        service = path.pop(0) if sentinels else ""
        prefix = options.pop("prefix", "bargein:")
        tls = _tls_of(options) if parts.scheme.startswith("rediss") else None
        if parts.scheme not in SCHEMES or len(path) > 1 or parts.fragment or (options and tls is None):
            return None
        found = tuple(_host_of(each, SENTINEL_PORT if sentinels else PORT) for each in hosts.split(","))
        if (len(found) > 1 and not sentinels) or "{" in prefix or "}" in prefix:
            return None
        db = int(path[0]) if path else 0
        return RedisAddress(found, unquote(username), unquote(password), db, prefix, service, tls)
    except (ValueError, IndexError):
        return None


def _tls_of(options: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if not set(options) <= {*_FILES, "verify"} or options.get("verify", "full") not in _CHECKS:
        raise ValueError
    return tuple(sorted(options.items()))


def _host_of(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or parts.username is not None:
        raise ValueError
    return parts.hostname, parts.port if parts.port is not None else port
