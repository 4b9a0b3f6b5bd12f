"""Timer of a session's current turn: pauses, missing output, and the wait for a permit."""

from __future__ import annotations

from ..settings import Settings
from .lifecycle import Stage
from .turn_record import NO_OUTPUT, OVERLOAD, TIMEOUT, TurnRecord
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
        settings = self._settings
        deadline = float("inf") if turn.held_until is None else turn.held_until
        if turn.stage is Stage.RUNNING:
            deadline = min(deadline, turn.progress_at + settings.no_output_s)
            if full:
                since = turn.progress_at if turn.paused_since is None else turn.paused_since
                deadline = min(deadline, since + settings.paused_s)
        elif self._turns.permit.waits:
            deadline = min(deadline, turn.progress_at + settings.turn_wait_s)
        return deadline

    def check(self, turn: TurnRecord, full: bool, now: float) -> None:
        """End the current turn if one of its times is over."""
        turns = self._turns
        if turn.stage is Stage.RUNNING:
            self._check_output(turn, full, now)
        elif turns.permit.waits and now >= turn.progress_at + self._settings.turn_wait_s:
            turns.end(turn, OVERLOAD)
            turns.start_next()

    def _check_output(self, turn: TurnRecord, full: bool, now: float) -> None:
        if not full:
            turn.paused_since = None
        elif turn.paused_since is None:
            turn.paused_since = turn.progress_at
        if turn.paused_since is not None and now >= turn.paused_since + self._settings.paused_s:
            self._turns.end(turn, TIMEOUT)  # it would keep its slot for as long as the client likes
            self._turns.start_next()
            return
        if full or turn.runs_tool:
            turn.progress_at = now  # the agent is not pulled, or a tool runs: no output is expected
        elif now >= turn.progress_at + self._settings.no_output_s:
            self._turns.end(turn, NO_OUTPUT)
            self._turns.start_next()
