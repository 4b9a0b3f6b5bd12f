"""Table of the doors, by the names with which they are switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from starlette.routing import BaseRoute

from ...guard.admission import Admission
from ...hosting.registry import SessionRegistry
from . import ag_ui, ai_sdk, chat
from .realtime import endpoint as realtime
from .twilio import endpoint as twilio

DoorName = Literal["chat", "ai-sdk", "ag-ui", "realtime", "twilio"]
"""Name of another protocol that a server speaks.

`chat` is for OpenAI's chat completions, `ai-sdk` for Vercel's AI SDK, `ag-ui` for AG-UI, `realtime` for
OpenAI's Realtime API, `twilio` for phone calls over Twilio Media Streams.
"""

DOORS: dict[str, Callable[[Callable[[], SessionRegistry], Admission, str], Iterator[BaseRoute]]] = {
    "chat": chat.routes,
    "ai-sdk": ai_sdk.routes,
    "ag-ui": ag_ui.routes,
    "realtime": realtime.routes,
    "twilio": twilio.routes,
}


class UnknownDoor(ValueError):
    """There is no such door; the message has the names."""


def door_routes(
    names: Iterable[str], sessions: Callable[[], SessionRegistry], admission: Admission, agent: str
) -> Iterator[BaseRoute]:
    """Yield the routes of doors.

    Args:
        names: Names of the doors.
        sessions: Returns the sessions of the running event loop.
        admission: Decides which requests are served.
        agent: Name of the agent.

    Raises:
        UnknownDoor: There is no door of a name.
    """
    for name in dict.fromkeys(names):
        if name not in DOORS:
            raise UnknownDoor(f"expected a door of {', '.join(DOORS)}, got {name!r}")
        yield from DOORS[name](sessions, admission, agent)
