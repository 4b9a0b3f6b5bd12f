"""The floor: a minimal server on uvicorn.

It has no sessions, turns or fence. It sends one prepared frame repeatedly, and answers a stop with another,
so its round trip is the cost of the connection itself. The frames have the length of ours, so the end of a
stopped turn holds the heard text.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

TOKEN = "word " * 12
RATE = 50
TURN_S = 2.0
"""So long does a turn run on average before its client cuts it off."""
LONGEST_S = 10.0
"""No turn that is cut off runs longer than this."""
TOKEN_FRAME = '{"type":"text.delta","seq":100000,"turn_id":"t_8432156e_1","text":"' + TOKEN + '"}'
END_FRAME = (
    '{"type":"turn.ended","seq":100001,"turn_id":"t_8432156e_1","status":"interrupted","reason":"client",'
    '"last_seq":100000,"heard":{"seq":100000,"text":"%s","audio_ms":0}}'
)
# By the tokens of the turn that ends, so that they are as long as ours.
ENDS = [END_FRAME % (TOKEN * tokens) for tokens in range(round(LONGEST_S * RATE))]


async def floor(scope: Any, receive: Any, send: Any) -> None:
    """Stream after `trickle` until `stop N`, and send N frames after `flat N`.

    The N of `stop N` is the number of frames that the client received.
    """
    await receive()
    await send({"type": "websocket.accept"})
    stream: asyncio.Task[None] | None = None
    while (message := await receive())["type"] == "websocket.receive":
        command, _, count = message["text"].partition(" ")
        if command == "flat":
            for n in range(int(count)):
                await send({"type": "websocket.send", "text": TOKEN_FRAME})
                if n % 32 == 31:
                    await asyncio.sleep(0)
            await send({"type": "websocket.send", "text": ENDS[1]})
        elif command == "trickle":
            stream = asyncio.create_task(_trickle(send))
        elif stream is not None:
            stream.cancel()
            await send({"type": "websocket.send", "text": ENDS[min(int(count), len(ENDS) - 1)]})
    if stream is not None:
        stream.cancel()


async def _trickle(send: Any) -> None:
    due = monotonic()
    while True:
        await send({"type": "websocket.send", "text": TOKEN_FRAME})
        due += 1 / RATE
        await asyncio.sleep(due - monotonic())
