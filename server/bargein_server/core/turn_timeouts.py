"""Timeouts of a running turn: without output, paused by its client, as a whole."""

from __future__ import annotations

from ..settings import Settings
from .turn_record import NO_OUTPUT, TIMEOUT, Ending, TurnRecord


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
