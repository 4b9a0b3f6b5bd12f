"""What the core asks of the shell; drained by `Session.commands()` and carried out in order."""

from __future__ import annotations

from msgspec import Struct

from bargein_protocol import Code, ToolDecision, ToolOutput, TurnId


class StartTurn(Struct, frozen=True):
    """Run the agent for this turn."""

    turn_id: TurnId


class CancelTurn(Struct, frozen=True):
    """The fence is closed: cancel the turn's task and close its model calls, in this step.

    The shell answers with `Session.cleaned_up` when the task has ended or was abandoned.
    """

    turn_id: TurnId
    reason: str


class DeliverAnswer(Struct, frozen=True):
    """Hand a client's answer to the call of this turn that waits for it."""

    turn_id: TurnId
    answer: ToolOutput | ToolDecision


class CloseConnection(Struct, frozen=True):
    """Write what is ready, then close the connection with this code."""

    code: Code


class Expire(Struct, frozen=True):
    """Forget the session: it was closed, or nobody came back for it."""


Command = StartTurn | CancelTurn | DeliverAnswer | CloseConnection | Expire
