"""State of a session's connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import BargeinError, SessionClosed, SessionReplaced

StateName = Literal["connecting", "open", "reconnecting", "replaced", "closed"]


@dataclass(frozen=True, kw_only=True)
class ConnectionState:
    """State of a session's connection.

    Args:
        name: `connecting` until the first connection is open, `open` when everything missed has been
            delivered, `reconnecting` after a connection broke, `replaced` when a newer connection drives
            the session, `closed` when the session is over for another reason.
        attempt: Number of the next attempt to connect, from 1; 0 unless `reconnecting`.
        retry_at: Time of that attempt on the environment's clock, in seconds.
        code: Name of the row in the protocol's table of codes that ended the connection or the session.
        error: Reason why the session is over.
    """

    name: StateName
    attempt: int = 0
    retry_at: float | None = None
    code: str | None = None
    error: BargeinError | None = None


CONNECTING = ConnectionState(name="connecting")
OPEN = ConnectionState(name="open")


def final_state(error: BargeinError) -> ConnectionState:
    """Return the state of a session that is over for this reason."""
    code = error.code if isinstance(error, SessionClosed) else None
    return ConnectionState(
        name="replaced" if isinstance(error, SessionReplaced) else "closed",
        code=None if code is None else code.name,
        error=error,
    )
