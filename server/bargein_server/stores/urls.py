"""Stores by their URLs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from .interface import Store
from .sqlite import SqliteStore

FORMS = "sqlite:///file.db, sqlite:////absolute/path/file.db, or none"


class BadStore(ValueError):
    """The URL names no store; the message has the expected form."""


def store_of(url: str, *, exclusive: bool = True) -> Store | None:
    """Return the store of a URL, not yet open; None for `none`.

    Args:
        url: Such as `sqlite:///bargein.db`, relative to the current folder, or with four slashes an absolute
            path. `?synchronous=full` makes every write wait for the disk.
        exclusive: Whether to lock it against other servers.

    Raises:
        BadStore: The URL has another form.
    """
    if url == "none":
        return None
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "normal")
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2 or options or parts.fragment:
        # The URL may hold a password, so it is not repeated.
        raise BadStore(f"expected a store such as {FORMS}")
    if synchronous not in ("normal", "full"):
        raise BadStore("expected synchronous=normal or synchronous=full in the URL of the store")
    path = Path(unquote(parts.path[1:])).expanduser()
    return SqliteStore(path, synchronous="full" if synchronous == "full" else "normal", exclusive=exclusive)


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
