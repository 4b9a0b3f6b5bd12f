"""Session as a plain object, without I/O, clock and asyncio. Internal.

Events and facts go in as method calls with the time as an argument; frames and commands come out.

`Session.commands()` drains the commands below; the host carries them out in order.
"""

from __future__ import annotations

from msgspec import Struct

from bargein_protocol import Code, ToolDecision, ToolOutput, TurnId


class StartTurn(Struct, frozen=True):
    """Run the agent for this turn."""

    turn_id: TurnId


class CancelTurn(Struct, frozen=True):
    """Cancel the turn's task and close its model calls, in this step.

    The fence is closed. The host calls `Session.cleaned_up` when the task has ended or was abandoned.
    """

    turn_id: TurnId
    reason: str


class DeliverAnswer(Struct, frozen=True):
    """Hand a client's answer to the call of this turn that waits for it."""

    turn_id: TurnId
    answer: ToolOutput | ToolDecision


class CloseConnection(Struct, frozen=True):
    """Write the ready frames, then close the connection with this code."""

    code: Code


class Expire(Struct, frozen=True):
    """Forget the session: it was closed, or its client did not return."""


Command = StartTurn | CancelTurn | DeliverAnswer | CloseConnection | Expire
