"""Endings of turns by the errors of their agents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from traceback import format_tb

from bargein_protocol import TurnId
from bargein_protocol.types import MAX_NAME_CHARS

from ..agent import NotAnAgent, TurnFailed
from ..core.author_code import EXITS, leaves
from ..core.plain_values import text_of
from ..core.turn_record import TIMEOUT, Ending

log = logging.getLogger("bargein.turn")

AGENT_ERROR = Ending("failed", "agent_error")


def ending_after(error: BaseException, turn_id: TurnId, cancelled: Callable[[], bool]) -> Ending | None:
    """Return the ending for an agent's error, None if the task must raise it.

    An exception group ends the turn as its worst exception does: an unexpected one, then a failure that no
    retry can mend. Cancels in it count only if it holds nothing else.

    Args:
        error: The error.
        turn_id: The turn, for the log.
        cancelled: Returns whether the fence is closed, or a cancel of the task was requested.
    """
    cause = max(leaves(error), key=_severity)
    if isinstance(cause, TurnFailed):
        return _failed(cause, turn_id)
    if isinstance(cause, TimeoutError):
        log.warning("turn %s timed out", turn_id, exc_info=error)
        return TIMEOUT
    if isinstance(cause, asyncio.CancelledError):
        if cancelled():
            return None
        log.warning("turn %s raised CancelledError without a cancel", turn_id)
        return AGENT_ERROR
    if isinstance(cause, NotAnAgent):
        log.error("turn %s failed: %s", turn_id, cause)
        return AGENT_ERROR
    if isinstance(error, (Exception, BaseExceptionGroup, *EXITS)):
        # The boundary to the author's code: an exception ends this turn alone. A library that calls
        # `sys.exit()` would otherwise end the server.
        log.error("turn %s failed", turn_id, exc_info=error)
        return AGENT_ERROR
    return None


def _severity(error: BaseException) -> int:
    """Return the order of errors of a group; the first of the highest decides."""
    if isinstance(error, asyncio.CancelledError):
        return 0
    if isinstance(error, TurnFailed):
        return 1 if error.retryable else 3
    return 2 if isinstance(error, TimeoutError) else 4


def _failed(error: TurnFailed, turn_id: TurnId) -> Ending:
    """Return the ending that an agent chose."""
    # The cause may quote the user's text, as the error of a model's server does.
    cause = error.__cause__
    detail = type(cause).__name__ if error.detail is None else error.detail
    reason = text_of(error.reason)[:MAX_NAME_CHARS]
    log.warning("turn %s failed: %s (%s)", turn_id, reason, text_of(detail))
    if cause is not None and log.isEnabledFor(logging.DEBUG):
        log.debug("turn %s failed at\n%s", turn_id, "".join(format_tb(cause.__traceback__)))
    return Ending("failed", reason, bool(error.retryable))
