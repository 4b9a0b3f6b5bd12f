"""Conversations that an application keeps in its own database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from msgspec.structs import replace

from bargein_protocol import TurnId

from ..core.author_code import EXITS, Contained
from ..core.history import Message, exchange_messages
from ..core.session import Session
from ..turn_host import EndedTurn, HistorySource, SessionContext

log = logging.getLogger("bargein.session")


class HistoryHost(Protocol):
    """The parts of a session's host that its history uses.

    Attributes:
        core: The session.
    """

    core: Session

    @property
    def view(self) -> SessionContext:
        """View of the session."""
        ...


class OutsideHistory:
    """The application's history for all sessions of a server.

    Args:
        source: The application's functions.
        background: Keeps the tasks that save.
    """

    def __init__(self, source: HistorySource, background: set[asyncio.Task[None]]) -> None:
        self.source = source
        self.background = background

    def of(self, host: HistoryHost) -> SessionHistory:
        """Return the history of one session."""
        return SessionHistory(self, host)


class SessionHistory:
    """History of one session.

    Attributes:
        loaded: Whether it was loaded.
    """

    __slots__ = ("_host", "_outside", "_saving", "loaded")

    def __init__(self, outside: OutsideHistory, host: HistoryHost) -> None:
        self._outside = outside
        self._host = host
        self._saving: asyncio.Task[None] | None = None
        self.loaded = False

    def restored(self, seed: Sequence[Message]) -> None:
        """Take the conversation that an earlier process loaded."""
        self._host.core.seed = seed
        self.loaded = True

    async def load(self) -> None:
        """Load the conversation before the session; errors propagate.

        Raises:
            TypeError: The application returned something other than messages.
        """
        core = self._host.core
        loaded = cast("object", await self._outside.source.load(self._host.view))
        if not isinstance(loaded, Iterable) or isinstance(loaded, (str, bytes, dict)):
            raise TypeError(f"expected load() to return a list of messages, got {type(loaded).__name__}")
        messages: list[Any] = list(loaded)
        for message in messages:
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise TypeError("expected load() to return messages with a role, as for chat completions")
        core.seed, self.loaded = messages, True
        if core.persistence is not None:
            core.persistence.head = replace(core.persistence.head, seed=messages)
            core.persistence.changes.touch_head()

    def save(self, turn_id: TurnId) -> None:
        """Save a turn whose task is over, after the turns before it."""
        turn = self._host.core.turn(turn_id)
        end = turn.fold.ended
        if end is None:
            return
        messages = exchange_messages(turn, None)
        ended = EndedTurn(turn_id, turn.input, messages, end.status, end.reason, end.heard.text, end.usage)
        task = asyncio.create_task(Contained(self._save(ended, self._saving)), name="save history")
        self._saving = task
        self._outside.background.add(task)
        task.add_done_callback(self._outside.background.discard)

    async def _save(self, turn: EndedTurn, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await self._outside.source.save(self._host.view, turn)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            log.exception("turn %s was not saved", turn.turn_id)  # a client of the database was cancelled
        except (Exception, *EXITS):
            # The boundary to the application: its conversation goes on.
            log.exception("turn %s was not saved", turn.turn_id)
