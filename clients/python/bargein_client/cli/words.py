"""Words for ends, refusals and tools; codes stay, for searches."""

from __future__ import annotations

import bargein_protocol as bp

from ..errors import RequestRefused

CUT_SHORT = {
    "length": "cut off: the model reached its limit",
    "content_filter": "cut off by a content filter",
    "refusal": "the model declined",
}
"""Notices below answers that completed although the model ended them early, by their reasons."""

_INTERRUPTED = {
    "client": "stopped",
    "superseded": "stopped: the next message came",
    "barge_in": "stopped: you spoke",
    "client_gone": "stopped: you were away for too long",
    "session_closed": "stopped: the conversation was closed",
    "rewound": "taken back",
}
_FAILED = {
    "agent_error": "the agent made a mistake",
    "timeout": "the answer took too long",
    "no_output": "the agent sent nothing for too long",
    "upstream": "the model behind the agent failed",
    "overload": "the server is full",
    "shutdown": "the server was stopped",
    "node_lost": "the server was lost",
    "session_lost": "the server lost this conversation",
}
_REFUSED = {
    "busy": "the agent is busy, wait for it or stop it",
    "queue_full": "too many messages are waiting",
    "shutting_down": "the server is shutting down",
    "session_lost": "the server lost this conversation before it received the message",
    "unsupported_attachment": "the agent does not take such a file",
    "at_capacity": "the server has no room for this now",
    "unknown_turn": "the server has forgotten that message",
}


def interrupted(reason: str) -> str:
    """Return the words for an interrupted turn."""
    return _INTERRUPTED.get(reason) or f"stopped ({reason})"


def failed(ended: bp.TurnEnded) -> str:
    """Return the words for a failed turn."""
    why = _FAILED.get(ended.reason)
    words = f"failed: {why} ({ended.reason})" if why else f"failed ({ended.reason})"
    return f"{words}; you may try again" if ended.retryable else words


def refused(error: RequestRefused) -> str:
    """Return the words for a refused request."""
    why = _REFUSED.get(error.code)
    words = f"not accepted: {why} ({error.code})" if why else f"not accepted: {error}"
    if error.retryable and error.retry_after_ms:
        return f"{words}; try again in {max(1, round(error.retry_after_ms / 1000))} s"
    return f"{words}; try again in a moment" if error.retryable else words


def tool_result(event: bp.ToolResult) -> str:
    """Return the words for the result of a tool."""
    took = f", {event.duration_ms / 1000:.1f} s" if event.duration_ms >= 50 else ""
    if event.status == "completed":
        return f"done{took}"
    if event.status == "running":
        return "continues in the background"
    why = f": {event.error}" if event.error else ""
    return f"{event.status}{why}{took}"
