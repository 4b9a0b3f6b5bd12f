"""Endpoint: one path over HTTP, with the admission of its requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..cluster.forwarding import FORWARDED
from ..cluster.letters import caller_of
from ..guard.admission import Admission, Caller, Refused
from ..hosting.registry import SessionRegistry
from .access import access_request
from .call import Call, Forwarded, address_of, denial, local_of

Handler = Callable[[Call], Awaitable[Response | None]]


class HttpEndpoint:
    """An ASGI application for one path.

    Args:
        sessions: Returns the sessions of the running event loop.
        admission: Decides which requests are served.
        handler: Returns the response, or None when it has sent one itself. Before it sends anything
            it may raise `Refused`.
        deny: Counts a refused request and returns the response.
    """

    def __init__(
        self,
        sessions: Callable[[], SessionRegistry],
        admission: Admission,
        handler: Handler,
        deny: Callable[[Refused, Admission], Response] = denial,
    ) -> None:
        self._sessions = sessions
        self._admission = admission
        self._handler = handler
        self._deny = deny

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        client = scope.get("extensions", {}).get(FORWARDED)
        admission = self._admission
        try:
            if client is not None:  # another process has admitted it
                await self._answer(request, caller_of(client), scope, receive, send)
                return
            address, local = address_of(request.client), local_of(scope)
            async with admission.admit(access_request(request), request.url.scheme, address, local) as caller:
                await self._answer(request, caller, scope, receive, send)
        except Refused as refused:
            await self._deny(refused, self._admission)(scope, receive, send)

    async def _answer(
        self, request: Request, caller: Caller, scope: Scope, receive: Receive, send: Send
    ) -> None:
        call = Call(request, self._sessions(), self._admission, caller, receive, send)
        try:
            response = await self._handler(call)
            if response is not None:
                await response(scope, receive, send)
        except Forwarded:
            pass
        finally:
            call.release_body()
