"""A WebSocket server for agents that can be interrupted.

    from bargein_server import Turn, run

    async def agent(turn: Turn):
        yield f"You said: {turn.text}"

    run(agent)

The names of this module are the public interface, together with the packages `agents`, `streams`,
`frameworks` and `examples`. All other modules and packages are internal and may change in any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bargein_protocol import __version__ as __version__

NEEDED = ("starlette", "uvicorn", "h11")
"""Packages of the extra `server`."""

if TYPE_CHECKING:
    from .agent import (
        Agent,
        BadOutput,
        EndedTurn,
        History,
        HistorySource,
        Message,
        NotAnAgent,
        Output,
        Principal,
        SessionContext,
        Turn,
        TurnClosed,
        TurnFailed,
    )
    from .app import create_app, lifespan, shut_down_sessions
    from .endpoints.users import issue_shared_ticket, issue_ticket, reauthenticate
    from .guard.authentication import (
        AccessDenied,
        AccessRequest,
        Authenticator,
        BadAuthenticator,
        BearerTokens,
        RequestAuthenticator,
        TokenAuthenticator,
    )
    from .hosting.model_calls import http_client
    from .launcher import NotProtected, NotStarted, run, serve
    from .page_configuration import BadPage, PageConfiguration
    from .serving.gc_tuning import tune_gc
    from .serving.server import uvicorn_config
    from .settings import Settings
    from .settings_reader import SettingsError
    from .telemetry.setup import NotInstalled
    from .transport.websocket_protocol import BargeinProtocol

__all__ = [
    "AccessDenied",
    "AccessRequest",
    "Agent",
    "Authenticator",
    "BadAuthenticator",
    "BadOutput",
    "BadPage",
    "BargeinProtocol",
    "BearerTokens",
    "EndedTurn",
    "History",
    "HistorySource",
    "Message",
    "NotAnAgent",
    "NotInstalled",
    "NotProtected",
    "NotStarted",
    "Output",
    "PageConfiguration",
    "Principal",
    "RequestAuthenticator",
    "SessionContext",
    "Settings",
    "SettingsError",
    "TokenAuthenticator",
    "Turn",
    "TurnClosed",
    "TurnFailed",
    "create_app",
    "http_client",
    "issue_shared_ticket",
    "issue_ticket",
    "lifespan",
    "reauthenticate",
    "run",
    "serve",
    "shut_down_sessions",
    "tune_gc",
    "uvicorn_config",
]

_HOMES = {
    "agent": (
        "Agent", "BadOutput", "EndedTurn", "History", "HistorySource", "Message", "NotAnAgent", "Output",
        "Principal", "SessionContext", "Turn", "TurnClosed", "TurnFailed",
    ),
    "app": ("create_app", "lifespan", "shut_down_sessions"),
    "guard.authentication": (
        "AccessDenied", "AccessRequest", "Authenticator", "BadAuthenticator", "BearerTokens",
        "RequestAuthenticator", "TokenAuthenticator",
    ),
    "hosting.model_calls": ("http_client",),
    "launcher": ("NotProtected", "NotStarted", "run", "serve"),
    "page_configuration": ("BadPage", "PageConfiguration"),
    "serving.gc_tuning": ("tune_gc",),
    "serving.server": ("uvicorn_config",),
    "settings": ("Settings",),
    "settings_reader": ("SettingsError",),
    "telemetry.setup": ("NotInstalled",),
    "transport.websocket_protocol": ("BargeinProtocol",),
    "endpoints.users": ("issue_shared_ticket", "issue_ticket", "reauthenticate"),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562).

    Without the packages of its extra, `bargein-server` can then still print how to install them.

    Raises:
        ModuleNotFoundError: A package of the extra `server` is missing; the message has the remedy.
    """
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f".{_HOME[name]}", __name__)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in NEEDED:
            raise
        remedy = f'bargein_server.{name} needs {package}: pip install "bargein[server]"'
        raise ModuleNotFoundError(remedy, name=missing.name) from None
    found = globals()[name] = getattr(home, name)
    return found


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
