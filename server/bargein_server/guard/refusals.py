"""Refusals of connections and requests, and the log of their causes."""

from __future__ import annotations

import logging

from .limits import RareLog

log = logging.getLogger("bargein.server")
rare_log = RareLog(log)

RETRY_AFTER_S = 5


CREDENTIAL_NEEDED = "a valid credential is needed: a bearer token, or the login of this site"
"""Reason of a 401."""


class Refused(Exception):
    """The handshake or request is refused.

    Attributes:
        status: The HTTP status.
        reason: A short text for people.
        retry_after_s: Seconds until the next attempt; None when an attempt cannot succeed.
    """

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
