"""Chats of a shared socket whose sessions are in other processes.

Each is forwarded as the request over HTTP that it stands for, and the chunks of the response are written to
the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct
from starlette.types import Message, Send

from bargein_protocol.errors import CLOSED

from ...hosting.own_ids import own_session_id
from ...hosting.ports import Wire
from ..call import Call

FULL_S = 0.02
"""Interval in which a socket that takes no output is looked at again."""


class _Start(Struct, rename="camel"):
    type: str = ""
    message_id: str = ""


_start = msgspec.json.Decoder(_Start)


class ForwardedStream:
    """Response of another process, whose chunks go to one stream of a socket.

    Args:
        wire: Takes the chunks.
        begin: Called before the first of them.

    Attributes:
        status: HTTP status of the response; 0 before its start.
        refusal: Body of a response that has no chunks.
        message_id: The message that is answered; empty before its first chunk.
    """

    def __init__(self, wire: Wire, begin: Callable[[], object]) -> None:
        self.status = 0
        self.refusal = b""
        self.message_id = ""
        self._wire = wire
        self._begin = begin
        self._unread = b""

    async def send(self, message: Message) -> None:
        """Take a part of the response (ASGI)."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status == 200:
                self._begin()
            return
        body: bytes = message.get("body", b"")
        if self.status != 200:
            self.refusal += body
            return
        *blocks, self._unread = (self._unread + body).split(b"\n\n")
        chunks = [block[6:] for block in blocks if block.startswith(b"data: ") and block != b"data: [DONE]"]
        if chunks and not self.message_id:
            self.message_id = _start.decode(chunks[0]).message_id
        if chunks:
            self._wire.write(chunks)
        while not self._wire.writable:
            await asyncio.sleep(FULL_S)
        if not message.get("more_body", False):
            self._wire.close(CLOSED)


def reason_of(refusal: bytes) -> str:
    """Return the reason in the body of a response that is no success."""
    try:
        return str(msgspec.json.decode(refusal, type=dict[str, Any]).get("message", "")) or "refused"
    except msgspec.MsgspecError:
        return "refused"


async def forward_chat(
    call: Call, send: Send, chat_id: str, path: str, query: str = "", body: Any = None
) -> bool:
    """Let the owner of a chat answer; return False without another owner.

    Cancelling it is a lost client for the owner.

    Args:
        call: The request of the socket.
        send: Takes the response (ASGI).
        chat_id: The client's id of the chat.
        path: Path of the request that it stands for.
        query: Its query.
        body: Its body for `POST`; None for `GET`.

    Raises:
        OSError: The owner is gone.
        TimeoutError: It stands still.
    """
    sessions, session_id = call.sessions, own_session_id(call.caller.principal, chat_id)
    elsewhere = sessions.elsewhere
    if elsewhere is None or sessions.has(session_id) or not elsewhere.may_have(session_id):
        return False
    root = call.request.scope.get("root_path", "")
    scope = {
        **call.request.scope,
        "method": "GET" if body is None else "POST",
        "path": root + path,
        "raw_path": quote(root + path).encode(),
        "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json")],
    }
    encoded = b"" if body is None else msgspec.json.encode(body)
    return await elsewhere.forward(session_id, scope, _stays, send, call.caller, encoded)


async def ignore(message: Message) -> None:
    """Take a response that is not waited for (ASGI)."""


async def _stays() -> Message:
    """Wait for the end of the client, which cancels the call instead."""
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}
