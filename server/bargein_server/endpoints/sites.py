"""Sites: ASGI applications of others in which ours are mounted."""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakSet

from starlette.applications import Starlette
from starlette.types import ASGIApp

from ..settings import Settings

_MADE: WeakSet[Starlette] = WeakSet()
"""Applications of `create_app` in this process. A site is any callable, so they cannot be found in it."""


class NotASite(ValueError):
    """An ASGI application lacks one of ours, or protection; with the remedy."""


class Site:
    """ASGI application in which applications of `create_app` are mounted.

    Args:
        app: The application.

    Attributes:
        chats: The mounted applications.

    Raises:
        NotASite: None is mounted.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.chats = tuple(_MADE)
        if not self.chats:
            raise NotASite(
                "the application contains none of create_app(): mount one, or serve it with uvicorn"
            )

    @property
    def settings(self) -> Settings:
        """Settings of a mounted application, with limits for the whole site."""
        settings: Settings = self.chats[0].state.settings
        return settings

    @property
    def authenticates(self) -> bool:
        """Whether every mounted application needs a credential."""
        return all(chat.state.admission.has_authenticator for chat in self.chats)


def remember(app: Starlette) -> None:
    """Let sites find an application of `create_app`."""
    _MADE.add(app)


def is_application(found: Any) -> bool:
    """Return whether an object is called with scope, receive and send."""
    if inspect.isclass(found) or not callable(found):
        return False
    try:
        inspect.signature(found).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return isinstance(found, Starlette) or not _takes_one(found)


def _takes_one(found: Any) -> bool:
    try:
        inspect.signature(found).bind(None)
    except TypeError:
        return False
    return True
