"""What all requests over HTTP share: who may come in, what they may send, and for which session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bargein_protocol import Cursor, SessionId, SessionOpen, Token
from bargein_protocol.codec import open_value_fault

from ..guard.admission import RETRY_AFTER_S, Admission, Caller, Refused
from ..hosting.host import SessionHost
from ..hosting.registry import SessionRegistry
from .responses import denial

TOKEN_HEADER = "Bargein-Session-Token"
SESSION_HEADER = "Bargein-Session"
COOKIE = "bargein_session"

SLOWEST_BYTES_PER_S = 32 * 1024
"""A body may take as long as its largest would on such a line, beside the time that any may take."""

T = TypeVar("T")


class Call:
    """One request that was let in.

    Attributes:
        request: The request.
        sessions: All sessions.
        door: Where it came in.
        visitor: Who asks.
        receive: Of ASGI.
        send: Of ASGI.
    """

    def __init__(
        self,
        request: Request,
        sessions: SessionRegistry,
        admission: Admission,
        caller: Caller,
        receive: Receive,
        send: Send,
    ) -> None:
        self.request = request
        self.sessions = sessions
        self.caller = caller
        self.receive = receive
        self.send = send
        self.admission = admission

    async def body(self, limit: int) -> bytes:
        """Return the body, which must be JSON.

        Raises:
            Refused: It is something else, too large, too slow, or one too many.
        """
        request = self.request
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # Also what keeps foreign pages out of a browser without CORS: forms cannot send this.
            raise Refused(415, "expected a body of application/json")
        body = bytearray()
        try:
            async with asyncio.timeout(self.sessions.settings.open_s + limit / SLOWEST_BYTES_PER_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise Refused(413, f"expected at most {limit} bytes")
        except TimeoutError:
            raise Refused(408, "the body did not come in time") from None
        except ClientDisconnect:
            raise Refused(400, "the body did not come whole") from None
        self._count(len(body))
        return bytes(body)

    async def decoded(self, kind: type[T], limit: int | None = None) -> T:
        """Return the body as a struct.

        Raises:
            Refused: It is not one.
        """
        body = await self.body(limit if limit is not None else self.sessions.settings.frame_bytes)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.ValidationError, OverflowError) as error:
            raise Refused(422, str(error)[:200]) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise Refused(400, "the body is not JSON") from None

    def session(self) -> SessionHost:
        """Return the session that the path names and the request has the secret of.

        Raises:
            Refused: There is none, or the secret is missing or wrong; which of them is nobody's business.
        """
        session_id = SessionId(self.request.path_params["session_id"])
        viewer_token, token = self.request.cookies.get(COOKIE), self.request.headers.get(TOKEN_HEADER)
        if viewer_token is None and token is None:
            raise Refused(401, f"the session's token is needed: {TOKEN_HEADER}")
        live = (
            self.sessions.find_by_viewer_token(session_id, viewer_token) if viewer_token is not None else None
        )
        if live is None and token is not None:
            self.introduce(None)
            live = self.sessions.find(session_id, self.caller.principal)
            if live is not None and not live.core.identity.proves(Token(token), self.sessions.loop.time()):
                live = None
        if live is None:
            raise Refused(404, "no such session, or its token is wrong")
        return live

    def introduce(self, credential: str | None) -> None:
        """Take the credential of a body.

        Raises:
            Refused: It is still not known who asks.
        """
        if not self.caller.introduce(credential):
            raise Refused(401, "a bearer token is needed")

    def cursor(self) -> Cursor | None:
        """Return what `Last-Event-ID` says, None without one.

        Raises:
            Refused: It is no id of ours.
        """
        given = self.request.headers.get("last-event-id")
        if given is None:
            return None
        epoch, _, seq = given.rpartition(".")
        try:
            return msgspec.convert({"epoch": epoch, "seq": msgspec.json.decode(seq)}, Cursor)
        except (msgspec.MsgspecError, UnicodeError):
            raise Refused(422, "expected a Last-Event-ID of the form epoch.seq") from None

    def _count(self, size: int) -> None:
        address = self.request.client.host if self.request.client is not None else ""
        if not self.admission.rates.take(address, size, self.sessions.loop.time()):
            raise Refused(429, "too many requests", RETRY_AFTER_S)


def check(opening: SessionOpen) -> None:
    """Check the values for the application in a first event, whose other fields the body's type checks.

    Raises:
        Refused: A value breaks a bound.
    """
    fault = open_value_fault(opening)
    if fault is not None:
        raise Refused(422, fault)


Handler = Callable[[Call], Awaitable[Response | None]]


class HttpEndpoint:
    """An ASGI application for one path.

    Args:
        sessions: Gives the sessions of the running event loop.
        door: Decides who may come in.
        handler: Answers, and returns None, or returns the answer. It may raise `Refused` before it
            has begun to answer.
    """

    def __init__(
        self, sessions: Callable[[], SessionRegistry], admission: Admission, handler: Handler
    ) -> None:
        self._sessions = sessions
        self._door = admission
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        address = request.client.host if request.client is not None else ""
        local = (scope.get("server") or ("", None))[0]
        try:
            with self._door.admit(request.headers, request.url.scheme, (), address, local) as caller:
                call = Call(request, self._sessions(), self._door, caller, receive, send)
                response = await self._handler(call)
                if response is not None:
                    await response(scope, receive, send)
        except Refused as refused:
            await denial(refused, self._door)(scope, receive, send)
