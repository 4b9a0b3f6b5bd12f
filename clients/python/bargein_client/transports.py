"""Which way a session is connected, and what is tried when WebSockets are blocked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bargein_protocol import JSON, MESSAGEPACK, Codec

from .connection import Line, dial
from .errors import LineEnded
from .event_stream import dial_stream, is_available

Transport = Literal["auto", "websocket", "sse"]
CodecName = Literal["json", "msgpack"]

_CODECS: dict[CodecName, Codec] = {"json": JSON, "msgpack": MESSAGEPACK}


class Dialer:
    """Makes the connections of one session.

    Args:
        url: Where the socket is; event streams are beside it.
        headers: Further headers of every request.
        transport: `websocket`, `sse`, or `auto`: WebSockets, and event streams where something on the
            way lets no WebSocket through. What was refused by the server itself is not tried again
            another way.
        codec: What frames on a WebSocket are written in.

    Attributes:
        streams: Whether connections are event streams by now.
    """

    def __init__(self, url: str, headers: Mapping[str, str], transport: Transport, codec: CodecName) -> None:
        self.streams = transport == "sse"
        self._url = url
        self._headers = dict(headers)
        self._may_fall_back = transport == "auto"
        self._codec = _CODECS[codec]

    async def __call__(self) -> Line:
        """Make a connection.

        Raises:
            LineEnded: It could not be made.
        """
        if self.streams:
            return await dial_stream(self._url, self._headers)
        try:
            line = await dial(self._url, self._headers, self._codec)
        except LineEnded as ended:
            if not (ended.blocked and self._may_fall_back and is_available()):
                raise
            self.streams = True
            return await dial_stream(self._url, self._headers, instead=ended)
        self._may_fall_back = False  # they get through here: whatever fails later is something else
        return line
