"""Opening of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import bargein_protocol as bp

from .backoff import Backoff
from .core import ClientCore
from .environment import Environment
from .errors import ConnectError
from .inbox import Bounds
from .session import ClientSession
from .transports import ChannelConnector, CodecName, Transport, session_url


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    reconnect: bool = True,
    backoff: Backoff | None = None,
    give_up_after_s: float = 300.0,
    client: bp.ClientInfo | None = None,
    bounds: Bounds | None = None,
    transport: Transport = "auto",
    codec: CodecName = "json",
    environment: Environment | None = None,
    audio: bp.SessionAudio | None = None,
    resume: bp.Resume | None = None,
) -> AsyncIterator[ClientSession]:
    """Open a session; close it for good on leaving the context.

    A session of `resume` is not closed then: it is left on the server, as by `ClientSession.leave`.

    Args:
        url: The server's URL, such as `ws://localhost:8000`; http and https are accepted, and an empty
            path becomes `/v1/session`. Without a scheme wss is taken, or ws for this machine. Proxies are
            taken from the environment, but not for this machine.
        token: A credential; sent in the first frame, never in the URL.
        headers: Additional headers of the handshake.
        reconnect: Whether to reconnect automatically.
        backoff: Delays between attempts to connect.
        give_up_after_s: The longest outage, in seconds; after it the session ends.
        client: Name and version of this program, for the server's logs.
        bounds: Capacity of the buffer of a slow consumer.
        transport: `websocket`; `sse` for event streams over plain HTTP, which need `bargein[sse]`; or
            `auto`: WebSockets, and event streams where the network blocks WebSockets.
        codec: Codec of WebSocket frames; MessagePack carries audio in a quarter fewer bytes.
        environment: Sources of ids, randomness and time.
        audio: Formats of the audio to send (`ClientSession.microphone`) and to get; None for neither.
        resume: A session to go on with: `ClientSession.resume_state` of another program, the headers of a
            response of another protocol's route, or `open_conversation`. The newest connection drives it;
            the one before ends with `SessionReplaced`.

    Raises:
        ConnectError: This is not a URL, or the first connection could not be made; or with the code
            `session_lost`, there is no such session, or its token is wrong.
    """
    info = client or bp.ClientInfo(name="bargein-python")
    core = ClientCore(auth=token, client=info, bounds=bounds, audio=audio, resume=resume)
    session = ClientSession(
        url := session_url(url),
        ChannelConnector(url, headers or {}, transport, codec),
        core,
        environment or Environment(),
        backoff=(backoff or Backoff()) if reconnect else None,
        give_up_after_s=give_up_after_s,
    )
    await session._open()
    try:
        if core.opening.refused is not None:
            why = f"the session cannot be resumed: {core.opening.refused}"
            raise ConnectError(url, why, code=bp.errors.SESSION_LOST)
        yield session
    finally:
        await (session.close() if resume is None or core.opening.refused is not None else session.leave())
