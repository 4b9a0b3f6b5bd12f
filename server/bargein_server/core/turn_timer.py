"""Times of the current turn: pauses, silence, length, wait for a permit."""

from __future__ import annotations

from ..settings import Settings
from .lifecycle import Stage
from .turn_record import NO_OUTPUT, OVERLOAD, TIMEOUT, Ending, TurnRecord
from .turn_scheduler import TurnScheduler


class TurnTimer:
    """Ends turns that take too long.

    The times of `check` are compared with the sums of `deadline`: a difference may be rounded to less.
    """

    __slots__ = ("_settings", "_turns")

    def __init__(self, turns: TurnScheduler, settings: Settings) -> None:
        self._turns = turns
        self._settings = settings

    def deadline(self, turn: TurnRecord, full: bool) -> float:
        """Return the time at which `check` is due at the latest.

        Args:
            turn: The current turn.
            full: Whether its agent must not be pulled.
        """
        deadline = float("inf") if turn.held_until is None else turn.held_until
        if turn.stage is Stage.RUNNING:
            deadline = min(deadline, timeout_due(turn, full, self._settings))
        elif self._turns.permit.waits:
            deadline = min(deadline, turn.progress_at + self._settings.turn_wait_s)
        return deadline

    def check(self, turn: TurnRecord, full: bool, now: float) -> None:
        """End the current turn if one of its times is over."""
        turns, ending = self._turns, None
        if turn.stage is Stage.RUNNING:
            ending = overdue_ending(turn, full, self._settings, now)
        elif turns.permit.waits and now >= turn.progress_at + self._settings.turn_wait_s:
            ending = OVERLOAD
        if ending is not None:
            turns.end(turn, ending)
            turns.start_next()


def timeout_due(turn: TurnRecord, full: bool, settings: Settings) -> float:
    """Return the time at which `overdue_ending` must be asked at the latest.

    Args:
        turn: A running turn.
        full: Whether its agent must not be pulled.
        settings: The limits.
    """
    due = turn.progress_at + settings.no_output_s
    if due < turn.model_until:
        due = turn.model_until
    if due > turn.due_at:
        due = turn.due_at
    if full:
        since = turn.progress_at if turn.paused_since is None else turn.paused_since
        due = min(due, since + settings.paused_s)
    return due


def overdue_ending(turn: TurnRecord, full: bool, settings: Settings, now: float) -> Ending | None:
    """Return the ending that is due, None when the turn goes on.

    The times are compared with the sums of `timeout_due`: a difference may be rounded to less.

    A turn whose model is at work needs no output (`TurnRecord.model_until`): a reasoning model may think
    for minutes, and the bytes of its stream show that it lives.
    """
    if now >= turn.due_at:
        return TIMEOUT
    if not full:
        turn.paused_since = None
    elif turn.paused_since is None:
        turn.paused_since = turn.progress_at
    if turn.paused_since is not None and now >= turn.paused_since + settings.paused_s:
        return TIMEOUT  # it would keep its slot for as long as the client likes
    if full or turn.runs_tool:
        turn.progress_at = now  # the agent is not pulled, or a tool runs: no output is expected
    elif now >= max(turn.progress_at + settings.no_output_s, turn.model_until):
        return NO_OUTPUT
    return None
