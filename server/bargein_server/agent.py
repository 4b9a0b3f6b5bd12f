"""What an agent sees: the least of it, until the real module takes this one's place."""

from __future__ import annotations

from typing import Any, Protocol

from bargein_protocol import Thought


class TurnFailed(Exception):
    """Ends the turn as failed."""

    def __init__(self, reason: str = "agent_error", *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable


class History(Protocol):
    """What was said before."""

    def messages(self, max_tokens: int | None = None) -> list[dict[str, Any]]:
        """Return the history in the shape of chat completions."""
        ...


class Turn(Protocol):
    """One run of the agent."""

    @property
    def history(self) -> History:
        """What was said, the current input last."""
        ...

    def thought(self, text: str) -> Thought:
        """Return a delta of thought."""
        ...

    def http_client(self) -> Any:
        """Return the shared HTTP client."""
        ...

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Count tokens."""
        ...
