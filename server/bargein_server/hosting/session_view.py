"""View of a session for its agents."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from bargein_protocol import AudioFormat, SessionId

from ..core.principal import Principal
from ..core.session import Session


class SessionView:
    """View of a session for its agents (`agent.SessionContext`)."""

    # Agents keep what belongs to a session in weak dictionaries.
    __slots__ = ("__weakref__", "_core", "principal", "state")

    def __init__(self, core: Session, principal: Principal | None) -> None:
        self._core = core
        self.principal = principal
        self.state: dict[str, Any] = {}

    @property
    def id(self) -> SessionId:
        """The public id."""
        return self._core.identity.session_id

    @property
    def store(self) -> MutableMapping[str, Any]:
        """Small values that a store keeps with the session."""
        return self._core.values

    @property
    def audio(self) -> AudioFormat | None:
        """Format of the audio that the client takes; None when it takes none."""
        return self._core.audio.output

    @property
    def metadata(self) -> dict[str, Any]:
        """The application's parameters, merged from `session.update`."""
        return self._core.metadata
