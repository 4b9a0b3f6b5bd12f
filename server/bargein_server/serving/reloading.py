"""Restart of the server when a program's file changes (development)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

import uvicorn
from uvicorn.supervisors import ChangeReload


def serve_reloading(serve: Callable[..., None], arguments: Sequence[str]) -> None:
    """Run a server as a process until a signal, anew when a file changes.

    Python files below the current folder are watched. Turns that run are cut at once unless
    `BARGEIN_DRAIN_S` is set; with a store, clients resume their sessions.

    Args:
        serve: Serves until a signal; a function of a module, called with `arguments` and `sockets`.
        arguments: Its arguments.
    """
    os.environ.setdefault("BARGEIN_DRAIN_S", "0")
    config = uvicorn.Config("", reload=True, reload_dirs=[os.getcwd()], log_config=None)
    ChangeReload(config, target=partial(serve, list(arguments)), sockets=[]).run()
