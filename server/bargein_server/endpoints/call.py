"""Common parts of HTTP endpoints: admission, body, session, responses."""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar

import msgspec
from msgspec import Struct, json
from starlette.datastructures import Address
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bargein_protocol import Code, Cursor, ErrorEvent, SessionId, SessionOpen, Token, errors
from bargein_protocol.json_scan import structure_fault
from bargein_protocol.open_values import open_value_fault
from bargein_protocol.types import MAX_CLIENT_VALUES

from ..cluster.forwarding import FORWARDED
from ..core.identity import is_digest_of
from ..core.records import Head
from ..guard.admission import RETRY_AFTER_S, Admission, Caller, Refused, rare_log
from ..guard.limits import address_key
from ..guard.refusals import CREDENTIAL_NEEDED
from ..hosting.host import SessionHost
from ..hosting.registry import SessionRegistry
from ..hosting.restoring import Shown, admits_token

PROTOCOL_HEADER = "Bargein-Protocol"
"""Header of every response; without it a response is from a proxy."""

HEADERS = {"Cache-Control": "no-store", PROTOCOL_HEADER: "1"}

_CODES: dict[int, Code] = {
    400: errors.BAD_FRAME,
    401: errors.UNAUTHORIZED,
    403: errors.FORBIDDEN,
    404: errors.SESSION_LOST,
    408: errors.OPEN_TIMEOUT,
    409: errors.NOT_RUNNING,
    413: errors.TOO_BIG,
    415: errors.WRONG_CODEC,
    422: errors.BAD_EVENT,
    429: errors.SHARE_USED,
    500: errors.INTERNAL,
    503: errors.OVERLOADED,
}
_RETRYABLE = (408, 429, 500, 503)


class Ticket(Struct, frozen=True):
    """A ticket for a browser.

    Args:
        ticket: The secret: an item of the subprotocol list, or `auth` in the first frame.
        expires_in_ms: Milliseconds for which it is valid.
    """

    ticket: str
    expires_in_ms: int


class Health(Struct, frozen=True, omit_defaults=True):
    """State of the server.

    Args:
        status: `ok`; `draining` while the server shuts down; `full` while it refuses new clients.
        store: State of the store: `up`; `opening`; `late` or `down` while conversations are in memory
            only. Absent on a server without one.
    """

    status: str
    store: str | None = None


def json_answer(body: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with an event or another body as JSON."""
    return Response(json.encode(body), status, {**HEADERS, **(headers or {})}, "application/json")


def denial(refused: Refused, admission: Admission) -> Response:
    """Count a refused request and return the response, an `error` event."""
    headers = refusal_headers(refused, admission)
    event = ErrorEvent(
        code=_CODES[refused.status].name, message=refused.reason, retryable=refused.status in _RETRYABLE
    )
    return json_answer(event, refused.status, headers)


def refusal_headers(refused: Refused, admission: Admission) -> dict[str, str]:
    """Count a refused request and return the headers of its response."""
    admission.refusals[refused.status] += 1
    headers = {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    return headers


TOKEN_HEADER = "Bargein-Session-Token"
SESSION_HEADER = "Bargein-Session"
CURSOR_HEADER = "Bargein-Cursor"
COOKIE = "bargein_session"
COOKIE_HEADER = "Bargein-Cookie"
"""Header of a request that asks for the cookie; its value is the path of the server, as its page sees it."""

_PATH = re.compile(r"/|(/[A-Za-z0-9._~%-]{1,128}){1,16}/?")

MAX_BODY_VALUES = 4 * MAX_CLIENT_VALUES
"""Maximum number of values in a body that holds many inputs, keys included."""

LARGE_BODY_BYTES = 16 * 1024
"""Larger bodies take milliseconds, so one of them is decoded in an iteration of the event loop."""

T = TypeVar("T")


def address_of(client: Address | None) -> str:
    """Return the key of a client's address."""
    return address_key(client.host if client is not None else None)


def local_of(scope: Scope) -> str:
    """Return the server's address."""
    return str((scope.get("server") or ("", None))[0])


class Forwarded(Exception):
    """Another process has answered the request."""


class Call:
    """One admitted request.

    Attributes:
        request: The request.
        sessions: All sessions.
        admission: The admission that it passed.
        caller: The client.
        receive: The ASGI callable.
        send: The ASGI callable.
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
        self._budgets = admission.budgets(caller)
        self._client = caller.owner
        self._held = 0
        self._body: bytes | None = None
        self._has_begun = False  # a forwarded response has
        self._is_forwarded = FORWARDED in request.scope.get("extensions", {})

    async def body(self, limit: int) -> bytes:
        """Return the body, which must be JSON.

        Raises:
            Refused: The body is not JSON, too large or too slow, or the client sends too much.
        """
        if self._body is None:
            self._body = await self._read_body(limit)
        return self._body

    async def _read_body(self, limit: int) -> bytes:
        request, settings = self.request, self.sessions.settings
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            # A proxy in front may find another end of the body (RFC 9112 section 6.3).
            raise Refused(400, "expected Content-Length or Transfer-Encoding, got both")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # This also stops foreign pages without CORS: a form cannot send this type.
            raise Refused(415, "expected a body of application/json")
        too_large = Refused(413, f"expected at most {limit} bytes")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 19 or int(declared) > limit):
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(settings.request_body_s):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > limit:
                        raise too_large
                    self._hold(len(chunk))
                    body += chunk
        except TimeoutError:
            raise Refused(408, "the body was not complete in time") from None
        except ClientDisconnect:
            raise Refused(400, "the body was not complete") from None
        if not self.admission.rates.take_bytes(self.caller.address, len(body), self.sessions.loop.time()):
            raise Refused(429, "too many bytes", RETRY_AFTER_S)
        return bytes(body)

    def _hold(self, size: int) -> None:
        for index, budget in enumerate(self._budgets):
            if not budget.take(self._client, size):
                for taken in self._budgets[:index]:
                    taken.give_back(self._client, size)
                rare_log.warning("requests are refused: their bodies exceed --max-body-bytes")
                raise Refused(503, "the server holds too many requests", RETRY_AFTER_S)
        self._held += size

    def release_body(self) -> None:
        """Release the bytes of the body; decoded values are bounded elsewhere."""
        for budget in self._budgets:
            budget.give_back(self._client, self._held)
        self._held = 0

    async def decoded(self, kind: type[T], limit: int | None = None) -> T:
        """Return the body as a struct.

        Raises:
            Refused: The body does not decode to one.
        """
        body = await self.body(limit if limit is not None else self.sessions.settings.max_frame_bytes)
        max_values = MAX_CLIENT_VALUES if limit is None else MAX_BODY_VALUES
        if len(body) <= LARGE_BODY_BYTES:
            return _decoded(body, kind, max_values)
        async with self.sessions.large_bodies:
            decoded = _decoded(body, kind, max_values)
            await asyncio.sleep(0)
            return decoded

    async def forward(self, session_id: SessionId) -> None:
        """Let another process answer, if it owns a session.

        Raises:
            Forwarded: It has answered.
            Refused: The body is not acceptable, or the owner stands still.
        """
        sessions, elsewhere = self.sessions, self.sessions.elsewhere
        if elsewhere is None or self._is_forwarded or sessions.has(session_id):
            return
        if not elsewhere.may_have(session_id):
            return
        headers = self.request.headers
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        body = await self.body(sessions.settings.max_frame_bytes) if has_body else b""
        self.release_body()
        try:
            answered = await elsewhere.forward(
                session_id, self.request.scope, self.receive, self._send_once, self.caller, body
            )
        except (OSError, TimeoutError):
            if self._has_begun:
                raise
            raise Refused(503, "the session's process does not answer", RETRY_AFTER_S) from None
        if answered:
            raise Forwarded

    async def _send_once(self, message: Message) -> None:
        self._has_begun = True
        await self.send(message)

    async def restore(self) -> None:
        """Restore the path's session from the store, for the right secret.

        Raises:
            Refused: The store fails, or there is no room.
        """
        restorer, session_id = self.sessions.restorer, SessionId(self.request.path_params["session_id"])
        await self.forward(session_id)
        if restorer is None or not restorer.is_needed(session_id):
            return
        viewer, token = self.request.cookies.get(COOKIE), self.request.headers.get(TOKEN_HEADER)
        principal = self.caller.principal

        def admits(head: Head) -> bool:
            if viewer is not None and is_digest_of(viewer, head.viewer):
                return True
            return token is not None and admits_token(Token(token), principal, self.sessions.wall, head)

        shown = Shown(principal, Token(token) if token is not None else None)
        if await restorer.restore(session_id, admits, shown) is not None:
            raise Refused(503, "the session cannot be restored now", RETRY_AFTER_S)

    def session(self) -> SessionHost:
        """Return the session in the path, when the request has its secret.

        Raises:
            Refused: There is no such session, or the secret is missing or wrong. The answer does not
                distinguish them.
        """
        session_id = SessionId(self.request.path_params["session_id"])
        viewer_token, token = self.request.cookies.get(COOKIE), self.request.headers.get(TOKEN_HEADER)
        if viewer_token is None and token is None:
            raise Refused(401, f"the session's token is needed: {TOKEN_HEADER}")
        live = (
            self.sessions.find_by_viewer_token(session_id, viewer_token) if viewer_token is not None else None
        )
        if live is None and token is not None:
            self.check_known()
            live = self.sessions.find(session_id, self.caller.principal)
            if live is not None and not live.core.identity.proves(Token(token), self.sessions.loop.time()):
                live = None
        if live is None:
            raise Refused(404, "no such session, or its token is wrong")
        return live

    async def authenticate(self, credential: str | None) -> None:
        """Check the credential of a body, unless the request itself had one.

        Raises:
            Refused: The credential is missing or wrong, its client is denied, or it cannot be checked now.
        """
        await self.caller.identify(credential)
        self.check_known()

    def check_known(self) -> None:
        """Refuse a request whose client is not authenticated.

        Raises:
            Refused: The credential is missing.
        """
        if not self.caller.known:
            raise Refused(401, CREDENTIAL_NEEDED)

    def cookie_path(self) -> str | None:
        """Return the path of the cookie that the client asks for, if any.

        Only the client knows the prefix that a proxy strips.

        Raises:
            Refused: The header does not hold a path.
        """
        given = self.request.headers.get(COOKIE_HEADER)
        if given is None:
            return None
        if _PATH.fullmatch(given) is None:
            raise Refused(422, f"expected a path in {COOKIE_HEADER}, such as / or /chat")
        return given.rstrip("/") or str(self.request.scope.get("root_path", ""))

    def cursor(self) -> Cursor | None:
        """Return the cursor in `Last-Event-ID`, None without one.

        Raises:
            Refused: The header does not hold a cursor.
        """
        given = self.request.headers.get("last-event-id")
        if given is None:
            return None
        epoch, _, seq = given.rpartition(".")
        try:
            if not (seq.isascii() and seq.isdecimal() and len(seq) <= 19):
                raise msgspec.ValidationError
            return msgspec.convert({"epoch": epoch, "seq": int(seq)}, Cursor)
        except (msgspec.MsgspecError, UnicodeError):
            raise Refused(422, "expected a Last-Event-ID of the form epoch.seq") from None


def _decoded(body: bytes, kind: type[T], max_values: int) -> T:
    fault = structure_fault(body, max_values)
    if fault is not None:
        raise Refused(422, fault)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, OverflowError) as error:
        raise Refused(422, str(error)[:200]) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Refused(400, "the body is not JSON") from None


def check(opening: SessionOpen) -> None:
    """Check the values for the application in a first event.

    The type of the body checks the other fields.

    Raises:
        Refused: A value breaks a bound.
    """
    fault = open_value_fault(opening)
    if fault is not None:
        raise Refused(422, fault)
