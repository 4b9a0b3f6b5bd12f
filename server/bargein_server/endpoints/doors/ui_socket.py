"""WebSocket transport of the AI SDK: many chats on one socket.

Here an abort is an interrupt and a closed socket is a lost client; over HTTP the two look the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct, field, json
from starlette.requests import Request
from starlette.websockets import WebSocket

from bargein_protocol import Code, Interrupt
from bargein_protocol.errors import FLOODED, RESTART, TOO_BIG, UNAUTHORIZED
from bargein_protocol.json_scan import structure_fault

from ...cluster.forwarding import FORWARDED
from ...guard.admission import Admission, Caller, Refused
from ...guard.authentication import TICKET_ITEM
from ...guard.limits import TokenBucket
from ...guard.refusals import CREDENTIAL_NEEDED
from ...hosting.host import SessionHost
from ...hosting.registry import SessionRegistry
from ...transport.turn_stream import TurnStream
from ...transport.wires import AsgiWire
from ..access import access_request, identified
from ..call import MAX_BODY_VALUES, Call, address_of, denial, local_of
from ..websocket import deny
from .conversation import interrupt_id
from .ui_forwarding import ForwardedStream, forward_chat, ignore, reason_of
from .ui_turns import Answer, answer_body, running_answer

log = logging.getLogger("bargein.connection")

CHAT_PATH = "/api/chat"

MAX_STREAMS = 64
"""Streams of one socket at a time."""

_encode = json.Encoder().encode


class Frame(Struct, rename="camel"):
    """A frame of a client.

    Args:
        id: The client's id of the chat.
        headers: Headers of the request, which a browser cannot set for a socket.
        body: Values for the agent.
    """

    type: str
    request_id: str
    id: str = ""
    trigger: str = "submit-message"
    message_id: str | None = None
    messages: list[dict[str, Any]] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


_decoder = json.Decoder(Frame)


class _RequestId(Struct, rename="camel"):
    request_id: str


_id_decoder = json.Decoder(_RequestId)


class ChatPart:
    """A `Wire` for one stream of a shared socket.

    Args:
        wire: The socket.
        request_id: The client's id of the stream.
    """

    def __init__(self, wire: AsgiWire, request_id: str) -> None:
        self._wire = wire
        self._id = _encode(request_id)
        self._sequence = 0
        self._over = False

    @property
    def writable(self) -> bool:
        """Whether the bytes that wait for the socket are below their mark."""
        return self._wire.writable

    def write(self, frames: Sequence[bytes]) -> None:
        """Send chunks."""
        packed = []
        for chunk in frames:
            packed.append(
                b'{"type":"chunk","requestId":%s,"sequence":%d,"chunk":%s}'
                % (self._id, self._sequence, chunk)
            )
            self._sequence += 1
        self._wire.write(packed)

    def send(self, kind: str, **fields: str) -> None:
        """Send another frame of the stream."""
        self._wire.write([_encode({"type": kind, "requestId": json.decode(self._id), **fields})])

    def close(self, code: Code) -> None:
        """Send the end of the stream."""
        if not self._over:
            self._over = True
            self.send("end")

    def abort(self) -> None:
        """Drop the socket, whose client does not read."""
        self._wire.abort()


class ChatSocket:
    """Socket of a client with all of its streams (`hosting.ports.Receiver`)."""

    def __init__(
        self, websocket: WebSocket, sessions: SessionRegistry, admission: Admission, caller: Caller
    ) -> None:
        self._websocket = websocket
        self._sessions = sessions
        self._admission = admission
        self._caller = caller
        self._wire = AsgiWire(websocket, True)
        self._streams: dict[str, tuple[TurnStream, SessionHost, Answer]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._forwarded: dict[str, tuple[Call, str, ForwardedStream]] = {}
        now, limits = sessions.loop.time(), sessions.settings
        self._messages = TokenBucket(limits.max_messages_per_s, now)
        self._bytes = TokenBucket(limits.max_bytes_per_s, now)

    async def run(self) -> None:
        """Serve until the peer is gone."""
        self._sessions.streams.add(self)
        try:
            await self._wire.run(self)
        finally:
            self._sessions.streams.discard(self)

    # --- the socket ------------------------------------------------------------------------------

    def receive(self, frame: bytes, text: bool) -> None:
        """Take a frame of the client."""
        now = self._sessions.loop.time()
        if len(frame) > self._sessions.settings.max_conversation_bytes:
            self._wire.close(TOO_BIG)
            return
        if not (self._messages.take(1, now) and self._bytes.take(len(frame), now)):
            self._wire.close(FLOODED)
            return
        try:
            if (fault := structure_fault(frame, MAX_BODY_VALUES)) is not None:
                raise msgspec.ValidationError(fault)
            asked = _decoder.decode(frame)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self._refuse(frame, error)
            return
        if asked.type == "abort":
            self._abort(asked.request_id)
        elif asked.type in ("send", "resume"):
            self._begin(asked)
        else:
            ChatPart(self._wire, asked.request_id).send("error", errorText="unknown type of frame")

    def _refuse(self, frame: bytes, error: Exception) -> None:
        """Answer a frame that is none, as far as it names its request."""
        try:
            request_id = _id_decoder.decode(frame).request_id
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        reason = str(error)[:200] if isinstance(error, msgspec.ValidationError) else "the frame is not JSON"
        ChatPart(self._wire, request_id).send("error", errorText=reason)

    def writable_again(self) -> None:
        """Continue all streams."""
        for turn_stream, _, _ in list(self._streams.values()):
            turn_stream.writable_again()

    def hung_up(self) -> None:
        """Record that the socket takes no more output."""
        self.disconnected()

    def disconnected(self) -> None:
        """Record that the client is lost; its turns go on."""
        for task in self._tasks.values():
            task.cancel()
        for turn_stream, _, _ in list(self._streams.values()):
            turn_stream.disconnected()
        self._streams.clear()

    def close(self, code: Code) -> None:
        """End the socket, because the server stops."""
        self._wire.close(code)

    # --- streams ---------------------------------------------------------------------------------

    def _begin(self, asked: Frame) -> None:
        part = ChatPart(self._wire, asked.request_id)
        if asked.request_id in self._tasks or asked.request_id in self._streams:
            pass  # an answer would end the stream that has this id
        elif len(self._tasks) + len(self._streams) >= MAX_STREAMS:
            part.send("error", errorText="too many requests at a time")
        else:
            task = self._sessions.loop.create_task(self._stream(asked, part), name="chat request")
            self._tasks[asked.request_id] = task
            task.add_done_callback(lambda done: self._tasks.pop(asked.request_id, None))

    async def _authenticate(self, headers: dict[str, str]) -> None:
        given = {name.lower(): value for name, value in headers.items()}.get("authorization", "")
        scheme, _, token = given.partition(" ")
        if not await self._caller.identify(token.strip() if scheme.lower() == "bearer" else None):
            self._wire.close(UNAUTHORIZED)
            raise Refused(401, CREDENTIAL_NEEDED)

    async def _stream(self, asked: Frame, part: ChatPart) -> None:
        """Begin a stream; the events of its turn write it."""
        scope = {**self._websocket.scope, "type": "http", "method": "POST", "extensions": {FORWARDED: None}}
        call = Call(
            Request(scope),  # which is forwarded here, if at all
            self._sessions, self._admission, self._caller, self._websocket.receive, self._websocket.send,
        )  # fmt: skip
        try:
            await self._authenticate(asked.headers)
            if await self._forward(call, asked, part):
                return
            if asked.type == "resume":
                found = await running_answer(call, asked.id)
                if found is None:
                    part.send("no-active")
                    return
                answer = found
                part.send("start")
            else:
                answer = await answer_body(call, _body(asked))
        except Refused as refused:
            part.send("error", errorText=refused.reason)
            return
        except Exception:
            log.exception("a chat request failed")
            part.send("error", errorText="the server failed")
            return
        self._start(asked.request_id, part, answer)

    async def _forward(self, call: Call, asked: Frame, part: ChatPart) -> bool:
        """Let the owner of the chat answer; return False without another owner."""
        resumes = asked.type == "resume"
        stream = ForwardedStream(part, lambda: part.send("start") if resumes else None)
        self._forwarded[asked.request_id] = call, asked.id, stream
        try:
            path = f"{CHAT_PATH}/{asked.id}/stream" if resumes else CHAT_PATH
            body = None if resumes else _body(asked)
            forwarded = await forward_chat(call, stream.send, asked.id, path, body=body)
        except (OSError, TimeoutError):
            raise Refused(503, "the process of the chat does not answer") from None
        finally:
            del self._forwarded[asked.request_id]
        if stream.status == 204:
            part.send("no-active")
        elif forwarded and stream.status != 200:
            raise Refused(stream.status, reason_of(stream.refusal))
        return forwarded

    def _start(self, request_id: str, part: ChatPart, answer: Answer) -> None:
        answer.translator.heartbeat = b""  # the socket has pings
        turn_stream = TurnStream(
            part, answer.translator, self._sessions, self._caller, answer.host, answer.input_id
        )
        self._streams[request_id] = turn_stream, answer.host, answer
        turn_stream.start(answer.after)
        turn_stream.ended.add_done_callback(lambda done: self._ended(request_id))

    def _ended(self, request_id: str) -> None:
        found = self._streams.pop(request_id, None)
        if found is not None:
            found[0].disconnected()

    def _abort(self, request_id: str) -> None:
        if (forwarded := self._forwarded.get(request_id)) is not None and forwarded[2].message_id:
            stopping = self._sessions.loop.create_task(_stop(*forwarded), name="chat stop")
            self._tasks[f"{request_id} stop"] = stopping
            stopping.add_done_callback(lambda done: self._tasks.pop(f"{request_id} stop", None))
        elif (task := self._tasks.get(request_id)) is not None:
            task.cancel()
        found = self._streams.get(request_id)
        if found is not None:
            _, host, answer = found
            event = Interrupt(id=interrupt_id(), input_id=answer.input_id)
            host.act(host.core.side_channel.request, event)


async def _stop(call: Call, chat_id: str, stream: ForwardedStream) -> None:
    """Interrupt the turn of a chat in another process."""
    query = f"messageId={quote(stream.message_id)}"
    with suppress(OSError, TimeoutError):  # its process is gone, and so is the turn
        await forward_chat(call, ignore, chat_id, f"{CHAT_PATH}/{chat_id}/stop", query, {})


def _body(asked: Frame) -> dict[str, Any]:
    body = {**asked.body, "id": asked.id, "trigger": asked.trigger, "messageId": asked.message_id}
    if asked.messages is not None:
        body["messages"] = asked.messages
    return body


async def serve_chats(websocket: WebSocket, sessions: SessionRegistry, admission: Admission) -> None:
    """Complete the handshake, and serve the socket until its client is gone."""
    offered: list[str] = websocket.scope.get("subprotocols", [])
    address = address_of(websocket.client)
    try:
        caller = admission.enter(
            websocket.headers, websocket.url.scheme, offered, address, local_of(websocket.scope)
        )
    except Refused as refused:
        await deny(websocket, denial(refused, admission))
        return
    try:
        if not await identified(websocket, admission, caller, access_request(websocket)):
            return
        await websocket.accept(next((item for item in offered if not item.startswith(TICKET_ITEM)), None))
        socket = ChatSocket(websocket, sessions, admission, caller)
        if sessions.draining:
            await websocket.close(RESTART.number, RESTART.reason)
            return
        await socket.run()
        socket.disconnected()
    except Refused as refused:
        await deny(websocket, denial(refused, admission))
    finally:
        admission.leave(address)
