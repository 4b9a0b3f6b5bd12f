"""Identification: calls of an author's authenticator, within bounds.

Neither an error of the author nor its text reaches a client, and no credential reaches the log.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine

from ..core.author_code import Contained
from ..core.principal import Principal, known_as
from .authentication import AccessDenied, AccessRequest, RequestAuthenticator, TokenAuthenticator
from .refusals import RETRY_AFTER_S, Refused, rare_log

WRONG = "requests are refused: their token or ticket is wrong, used or too old"

_MAX_REASON_BYTES = 120
"""Size of a reason for a client in UTF-8; a close frame has room for about as much."""


def principal_of_token(authenticator: TokenAuthenticator, credential: str) -> Principal | None:
    """Return a credential's principal; a failing authenticator refuses it."""
    try:
        found: object = authenticator.principal_of(credential)
    except (Exception, SystemExit) as error:
        # The boundary to the author's code. Libraries raise for an expired token, for example. The message
        # of the error may quote the credential.
        rare_log.warning(
            "a credential is refused because the authenticator raised %s; "
            "return None from principal_of() for a credential that is not valid",
            type(error).__name__,
        )
        return None
    if found is None:
        rare_log.warning(WRONG)
    elif isinstance(found, str) and found:
        return known_as(found)
    else:
        rare_log.warning(
            "a credential is refused because the authenticator returned %s; principal_of() must be a "
            "plain function that returns a text or None",
            type(found).__name__,
        )
        if isinstance(found, Coroutine):
            found.close()
    return None


class Identification:
    """Asks an author's async authenticator for the principals of requests.

    Args:
        authenticator: The authenticator.
        timeout_s: Seconds that one call may take.
    """

    def __init__(self, authenticator: RequestAuthenticator, timeout_s: float) -> None:
        self._authenticator = authenticator
        self._timeout_s = timeout_s
        self._running: set[asyncio.Task[object]] = set()

    async def principal_of(self, request: AccessRequest) -> Principal | None:
        """Return a request's principal; None without a valid credential.

        Cancelling it cancels the authenticator.

        Raises:
            Refused: The authenticator denies the client, with 403; or it fails or takes too long, with 503.
        """
        try:
            found = await self._call(request)
        except Refused:
            raise  # it took too long
        except AccessDenied as denied:
            if denied.detail is not None:
                detail = str(denied.detail).encode("utf-8", "backslashreplace").decode()
                rare_log.warning("the authenticator denies a client: %s", detail)
            raise Refused(403, _public(str(denied.reason)) or "this client may not connect") from None
        except Exception as error:
            # The boundary to the author's code. A database that is down must not end clients for good, as
            # 401 does. The message of the error may quote the credential.
            rare_log.warning(
                "clients are refused for now because the authenticator raised %s; return None for a "
                "credential that is not valid, raise AccessDenied for a client that may not come in, and "
                "catch the errors of your database",
                type(error).__name__,
            )
            raise Refused(503, "the credential cannot be checked now", RETRY_AFTER_S) from None
        if found is None or (isinstance(found, str) and found):
            if found is None and request.credential is not None:
                rare_log.warning(WRONG)
            return known_as(found)
        rare_log.warning(
            "clients are refused because the authenticator returned %s; expected a Principal, a text that "
            "is not empty, or None",
            type(found).__name__,
        )
        return None

    async def _call(self, request: AccessRequest) -> object:
        # A task of its own ends in time even if the author's code swallows its cancellation.
        task = asyncio.create_task(Contained(self._authenticate(request)), name="authenticate")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.wait([task], timeout=self._timeout_s)
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(_take_error)
        if task.cancelled():
            raise RuntimeError("the authenticator cancelled itself")
        if task.done():
            return task.result()
        rare_log.warning(
            "clients are refused for now because the authenticator took longer than %g s; if it needs more, "
            "set --authenticator-s or BARGEIN_AUTHENTICATOR_S",
            self._timeout_s,
        )
        raise Refused(503, "the credential cannot be checked in time", RETRY_AFTER_S)

    async def _authenticate(self, request: AccessRequest) -> object:
        asked: object = self._authenticator(request)
        return await asked if inspect.isawaitable(asked) else asked


def _public(reason: str) -> str:
    """Return one line of valid UTF-8 that fits into a close frame."""
    line = " ".join(reason.split()).encode("utf-8", "replace")
    return line[:_MAX_REASON_BYTES].decode(errors="ignore")


def _take_error(task: asyncio.Task[object]) -> None:
    """Take a task's late error, so that asyncio does not log its text."""
    if not task.cancelled():
        task.exception()
