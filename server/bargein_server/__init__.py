"""A WebSocket server for agents that can be interrupted."""

from .agent import Agent, NotAnAgent, Output, Turn, TurnClosed, TurnFailed
from .app import create_app
from .guard.authentication import Authenticator, BearerTokens
from .settings import Settings
from .shell.uvicorn_protocol import BargeinProtocol

__version__ = "0.1.0"

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
