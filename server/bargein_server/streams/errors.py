"""What the operators raise of their own.

Exception
├── LimitExceeded   a source had more than it may have
└── TooSlow         who reads does not keep up, and nothing may wait any longer
asyncio.CancelledError
└── StreamClosed    nobody reads any more
"""

from __future__ import annotations

import asyncio


class LimitExceeded(Exception):
    """A source had more than it may have."""


class TooSlow(Exception):
    """Who reads is so many items behind that no more are kept for it."""


class StreamClosed(asyncio.CancelledError):
    """Nobody reads any more: what produces shall stop.

    It is a `CancelledError`, so that it passes through code which retries or logs, in threads too.
    """
