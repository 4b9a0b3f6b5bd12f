"""Errors of the operators.

Exception
├── LimitExceeded   a source exceeded its limit
└── TooSlow         a consumer is too far behind, and nothing more is queued for it
asyncio.CancelledError
└── StreamClosed    the stream has no reader any more
"""

from __future__ import annotations

import asyncio


class LimitExceeded(Exception):
    """A source exceeded its limit."""


class TooSlow(Exception):
    """A consumer is too many items behind: no more are queued for it."""


class StreamClosed(asyncio.CancelledError):
    """The stream has no reader any more: the producer must stop.

    It is a `CancelledError`, so that it passes through code which retries or logs, in threads too.
    """
