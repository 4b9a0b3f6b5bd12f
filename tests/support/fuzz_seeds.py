"""Inputs and words with which fuzzing begins."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from msgspec import inspect

import golden_vectors as wire
from raw_websocket import HEAD, frame

JSON_WORDS = (
    b'"type":', b'"seq":', b'"turn_id":', b'"id":', b'"call_id":', b'"metadata":', b'"output":', b'"value":',
    b'"pending":', b'"turns":', b'"lanes":', b'"tools":', b'"text":', b'"snapshot"', b'"session.open"',
    b'"input.text"', b'"tool.output"', b'"session.update"', b'"data"', b'"progress"', b'"future.thing"',
    b"null", b"true", b"[]", b"{}", b'""', b"[" * 70, b"]" * 70, b'{"a":' * 70, b"}" * 70, b"\\ud800",
    b"\\u0000", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"NaN", b"Infinity", b"9" * 4400, b"0." + b"1" * 800,
    b"QUJD", b"=",
)  # fmt: skip
PACKED_WORDS = (
    b"\xc0", b"\xc1", b"\xc2", b"\x80", b"\x90", b"\x91", b"\x81", b"\x81\xff\xfe", b"\x81\x92\xff\xfe\xff",
    b"\xa0", b"\xc4\x00", b"\xc6\xff\xff\xff\xff", b"\xca\x7f\xc0\x00\x00", b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xcf" + b"\xff" * 8, b"\xcb\x7f\xf0\0\0\0\0\0\0", b"\xd3\x80\0\0\0\0\0\0\0", b"\xd6\xff\0\0\0\1",
    b"\xd4\x05x", b"\xc7\x00\x05", b"\xd9\x04type", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff",
    b"\xdf\x7f\xff\xff\xff", b"\xde\0\1", b"\xdc\0\2", b"\x91" * 70, b"\x81\xa1a" * 70, b"\xa8metadata",
    b"\xa6output", b"\xa5value", b"\xa3seq", b"\xa4type",
)  # fmt: skip


def json_frames() -> list[bytes]:
    """Return a JSON frame of every event, and the golden ones."""
    return [msgspec.json.encode(event) for event in _events()]


def packed_frames() -> list[bytes]:
    """Return a MessagePack frame of every event, and the golden ones."""
    return [msgspec.msgpack.encode(event) for event in _events()]


def client_events() -> list[bytes]:
    """Return a JSON frame of every event of a client."""
    golden = [message["event"] for message in wire.vectors()["messages"] if message["direction"] == "client"]
    smallest = [wire.least(inspect.type_info(kind)) for kind in wire.EVENTS["client"]]
    return [msgspec.json.encode(event) for event in (*smallest, *golden)]


def _events() -> list[Any]:
    smallest = [wire.least(inspect.type_info(kind)) for kinds in wire.EVENTS.values() for kind in kinds]
    golden = [message["event"] for message in wire.vectors()["messages"]]
    return [*smallest, *golden]


STREAMS = (
    b": heartbeat\n\n",
    b'event: session.opened\ndata: {"a":1}\n\n',
    b'id: e.7\nevent:text.delta\r\ndata:{"b":\r\ndata: 2}\r\n\r\n',
    b"retry: 5\nunknown\n\nevent: nothing\n\ndata: x: y\n\ndata\n\ndata:\ndata\n\n",
    b"\xef\xbb\xbfdata: a\rdata: b\r\revent: close\rdata: {}\r\r\n\n",
    b"id: 1\0\ndata: \xf0\x9f\x98\x80\n\nid: 9999999999999999999999\nretry: 9999999999999999999\ndata: c\n\n",
)
STREAM_WORDS = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r", b"\0", b"\xef\xbb\xbf", b":", b": ",
    b":  ", b"data", b"data:", b"data: x\n", b"data\n", b"event: ", b"event: close\n", b"id: ", b"retry: ",
    b"Data: ", b" data: ", b"\xff", b"\xc2\x85", b"\xe2\x80\xa8", b"\x0b", b"\x0c", b"\x1c", b"x" * 100,
)  # fmt: skip


def pieces_of(data: bytes, chance: Random) -> list[bytes]:
    """Return the pieces in which a stream arrives."""
    at, pieces = 0, []
    longest = chance.choice((1, 2, 3, 8, 100, len(data) + 1))
    while at < len(data):
        end = at + 1 + int(chance.random() * longest)
        pieces.append(data[at:end])
        at = end
    return pieces


# --- connections -------------------------------------------------------------------------------

_JSON = "Content-Type: application/json\r\n"
_CHUNKED = "Transfer-Encoding: chunked\r\n"
_TOKEN = "Bargein-Session-Token: TOKEN\r\n"
_SECRET = "Authorization: Bearer secret\r\n"
_CONTROLS = "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n"
_OPEN = b'{"type":"session.open"}'
_INPUT = b'{"type":"input.text","id":"in_1","text":"hello"}'
_PING = b'{"type":"ping","id":"p"}'


def connections() -> list[bytes]:
    """Return requests, pipelined requests, and handshakes with frames.

    SESSION and TOKEN stand for those of a session that exists.
    """

    def request(line: str, body: bytes = b"", headers: str = "") -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        return f"{line} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n".encode() + body

    def upgraded(*frames: bytes, headers: str = "") -> bytes:
        return f"{HEAD}{headers}\r\n".encode() + b"".join(frames)

    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b'{"text":', b'"hello"}', b""))
    events = "/v1/sessions/SESSION/events"
    return [
        *(request(f"GET {path}") for path in ("/", "/healthz", "/readyz", "/v1/openapi.json", "/nope?a=%ff")),
        request("POST /v1/turns", b'{"text":"hello"}', _JSON),
        request("POST /v1/turns", b"", _JSON + _CHUNKED) + chunks,
        request("POST /v1/sessions", _OPEN, _JSON + "Accept: text/event-stream\r\nBargein-Cookie: /\r\n"),
        request("POST /v1/batch", b'{"inputs":[{"text":"a"},{"text":"b"}],"concurrency":1}', _JSON),
        request(f"GET {events}", b"", "Last-Event-ID: e.1\r\n" + _TOKEN),
        request(f"GET {events}", b"", _TOKEN + _CHUNKED) + b"4\r\nab",
        request(f"POST {events}", _INPUT, _JSON + _TOKEN),
        request("POST /v1/sessions/SESSION/interrupt", b'{"id":"x"}', _JSON + _TOKEN),
        request("POST /v1/tickets", b"", "Origin: http://localhost\r\n"),
        request("POST /v1/tickets", b"", _SECRET),
        request("POST /v1/turns", b'{"text":"hello","auth":"secret"}', _JSON),
        request("GET /healthz", b"0123456789") + request("GET /healthz", b"", "Connection: close\r\n"),
        request("OPTIONS /v1/turns", b"", _CONTROLS),
        request("HEAD /", b"", "Expect: 100-continue\r\nContent-Length: 5\r\n"),
        upgraded(frame(1, _OPEN), frame(1, _INPUT), frame(9, b"p"), frame(8, b"\x03\xe8")),
        upgraded(frame(1, _OPEN[:9], final=False), frame(9), frame(0, _OPEN[9:]), frame(1, _PING)),
        upgraded(
            frame(2, b"\x81\xa4type\xacsession.open"),
            frame(2, b"\x81\xa4type\xa4ping"),
            headers="Sec-WebSocket-Protocol: bargein.v1.msgpack\r\n",
        ),
        upgraded(frame(1, _OPEN), headers="Sec-WebSocket-Protocol: chat\r\n"),
    ]


CONNECTION_WORDS = (
    b"\r\n", b"\r\n\r\n", b"\n\n", b"\n", b": ", b"GET / HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: a\r\n",
    b"Host: \xff\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"0\r\n\r\n", b"fffffff\r\n", b"5;a=b\r\nhello\r\n",
    b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n", b"Connection: close\r\n", b"X: \xff\xfe\r\n",
    b"X: " + b"y" * 3000 + b"\r\n", b"Cookie: a=b;;=;\xe9\r\n", b"%00", b"%ff", b"?token=%", b"//", b"/../",
    b"Origin: null\r\n", b"Origin: http://[::1\r\n", b"X-Forwarded-For: ::1, x\r\n", b"traceparent: 00-x\r\n",
    b"Last-Event-ID: [[[[\r\n", b"Authorization: Bearer \xff\r\n", b"Expect: 100-continue\r\n",
    b"Sec-WebSocket-Protocol: ,bargein.ticket.\xff\r\n", b"SESSION", b"TOKEN",
    b"Authorization: Bearer secret\r\n", b"Accept: text/event-stream\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b"Bargein-Session-Token: TOKEN\r\n",
    b"\x81\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8", b"\x89\x80\0\0\0\0", b"\x01\x81\0\0\0\0a",
    b"\xc1\x80\0\0\0\0", b"\x80\x80\0\0\0\0", b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
    b'{"text":1}', b'"resume":{}', b"[[[[",
)  # fmt: skip
