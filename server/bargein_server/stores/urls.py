"""Stores by their URLs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, unquote, urlsplit

from .interface import Store
from .sqlite import SqliteStore
from .sqlite_files import explained, locked

FORMS = "sqlite:///file.db, sqlite:////absolute/path/file.db, redis://host:6379/0, or none"

KEEP_S = 30 * 86_400.0


class BadStore(ValueError):
    """The URL names no store; the message has the expected form."""


def store_of(
    url: str, *, exclusive: bool = True, shared: bool = False, keep_s: float = KEEP_S
) -> Store | None:
    """Return the store of a URL, not yet open; None for `none`.

    Args:
        url: Such as `sqlite:///bargein.db`, relative to the current folder, or with four slashes an absolute
            path. `?synchronous=full` makes every write wait for the disk. `redis://…`, `rediss://…` and
            `redis+sentinel://…` name a server that many share (docs/cluster.md).
        exclusive: Whether to lock a file against other servers.
        shared: Whether several workers of one server write a file; their supervisor locks it (`lock_of`).
        keep_s: Time after its last use for which a session is kept.

    Raises:
        BadStore: The URL has another form, or a package is missing.
    """
    if url == "none":
        return None
    if url.startswith(("redis:", "rediss:", "redis+", "rediss+")):
        return _redis_store(url, keep_s)
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "normal")
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2 or options or parts.fragment:
        # The URL may hold a password, so it is not repeated.
        raise BadStore(f"expected a store such as {FORMS}")
    if synchronous not in ("normal", "full"):
        raise BadStore("expected synchronous=normal or synchronous=full in the URL of the store")
    path = Path(unquote(parts.path[1:])).expanduser()
    return SqliteStore(
        path,
        synchronous="full" if synchronous == "full" else "normal",
        exclusive=exclusive,
        shared=shared,
    )


def lock_of(url: str) -> IO[bytes] | None:
    """Return the lock of a workers' file, for their supervisor, or None.

    Raises:
        BadStore: The URL has another form.
        StoreError: Another server has it, or it cannot be opened.
    """
    store = store_of(url)
    if not isinstance(store, SqliteStore):
        return None
    try:
        return locked(store.path)
    except OSError as error:
        raise explained(store.path, error) from error


def _redis_store(url: str, keep_s: float) -> Store:
    try:
        from .redis_address import REDIS_FORMS, address_of
        from .redis_store import RedisStore
    except ImportError as error:
        raise BadStore('the store needs a package: pip install "bargein[redis]"') from error
    address = address_of(url)
    if address is None:
        raise BadStore(f"expected a store such as {REDIS_FORMS}")
    return RedisStore(address, keep_s)


def default_url(name: str, environment: Mapping[str, str]) -> str:
    """Return the URL of the store that `bargein-server` uses for an agent.

    It is a file in `$XDG_STATE_HOME/bargein`, by default `~/.local/state/bargein`. An agent of the user's
    own has a file for each folder that it is served from.

    Args:
        name: Name of a built-in agent, or `module:agent`.
        environment: The environment variables.
    """
    given = environment.get("XDG_STATE_HOME", "")
    state = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    if ":" in name:
        folder = sha256(os.fsencode(os.getcwd())).hexdigest()[:8]
        name = f"{name.replace(':', '.')}-{folder}"
    legal = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    return f"sqlite:///{state / 'bargein' / legal}.db"
