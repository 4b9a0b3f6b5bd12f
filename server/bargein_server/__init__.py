"""A WebSocket server for agents that can be interrupted."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bargein_protocol import __version__ as __version__

if TYPE_CHECKING:
    from .agent import Agent, NotAnAgent, Output, Turn, TurnClosed, TurnFailed
    from .app import create_app
    from .guard.authentication import Authenticator, BearerTokens
    from .settings import Settings
    from .transport.websocket_protocol import BargeinProtocol

__all__ = [
    "Agent",
    "Authenticator",
    "BargeinProtocol",
    "BearerTokens",
    "NotAnAgent",
    "Output",
    "Settings",
    "Turn",
    "TurnClosed",
    "TurnFailed",
    "create_app",
]

_HOMES = {
    "app": ("create_app",),
    "guard.authentication": ("Authenticator", "BearerTokens"),
    "settings": ("Settings",),
    "transport.websocket_protocol": ("BargeinProtocol",),
    "agent": ("Agent", "NotAnAgent", "Output", "Turn", "TurnClosed", "TurnFailed"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `bargein-server` without its extras must get so far as
    to say what is missing (PEP 562).
    """
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return found
