"""Connection of a Realtime client: frames to and from its dialogue."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from bargein_protocol import (
    MESSAGEPACK,
    Attachment,
    Code,
    InputText,
    Interrupt,
    InterruptId,
    Seq,
    ServerEvent,
    SessionAudio,
    SessionClose,
    SessionOpen,
    TurnEvent,
)
from bargein_protocol.errors import CLOSED, WRONG_CODEC
from bargein_protocol.media_types import are_taken

from ....core.history import Message
from ....guard.admission import Caller
from ....hosting.host import SessionHost
from ....hosting.own_ids import Unavailable, seed
from ....hosting.ports import Wire
from ....hosting.registry import SessionRegistry
from ....transport.turn_stream import TurnStream
from ..json_connection import JsonConnection, object_of
from ..messages import bounded
from .dialogue import Dialogue
from .shapes import JsonMap
from .turns import RunningTurn


class RealtimeConnection(JsonConnection):
    """A client of the Realtime protocol, the driver of its session.

    Args:
        below: The socket, for text frames.
        registry: Registry of all sessions.
        caller: The client.
        model: Its name of the model.
        patch: Configuration that came with its key.
    """

    binary = WRONG_CODEC

    def __init__(
        self, below: Wire, registry: SessionRegistry, caller: Caller, model: str, patch: JsonMap | None = None
    ) -> None:
        super().__init__(below, registry, caller)
        self._model = model
        self._patch = patch
        self._dialogue: Dialogue | None = None
        self._known: list[str] = []

    def open(self, host: SessionHost | None) -> None:
        """Open a session and send `session.created`.

        Args:
            host: The session to go on with; None for a fresh one.
        """
        if host is None:
            self.take(SessionOpen())
            host = self._host
        else:
            self._stop_open_timer()
            self._host = host
            before = [*host.core.seed, *host.core.side_channel.messages()]
            self._known = [str(each["content"]) for each in before if each["role"] == "user"]
            after = Seq(host.core.side_channel.cursor.seq)
            if host.connection is not None:
                host.connection.replaced()
            host.view.principal = self.caller.principal  # its claims are those of the newest connection
            self._registry.own_ids.drive(host, self, MESSAGEPACK, after, self.caller.trace)
        if host is not None and not self._closing:
            self._dialogue = Dialogue(self, host.view.id, self._model)
            self._dialogue.start(self._patch)

    def receive_message(self, frame: bytes) -> None:
        """Take an event; one that is no JSON is answered by an error."""
        dialogue = self._dialogue
        if dialogue is None:
            return
        event = object_of(frame, MAX_VALUES)
        if event is None:
            dialogue.refuse({}, "invalid_json", "expected a JSON object of at most 64 nested levels")
        else:
            dialogue.receive(event)

    # --- the port of the dialogue ----------------------------------------------------------------

    @property
    def hears(self) -> bool:
        """Whether the server takes and sends sound."""
        return self._registry.ears is not None

    def negotiate(self, asked: SessionAudio) -> SessionAudio | None:
        """Set the audio of the session; return the granted one."""
        host = self._host
        return None if host is None else host.act(host.core.audio.open, asked)

    def takes(self, images: Sequence[Attachment]) -> bool:
        """Return whether the agent takes images of these types."""
        return are_taken(images, self._registry.attachments)

    def known(self) -> list[str]:
        """Return the user's texts that the session had before this connection."""
        return self._known

    def seed(self, messages: Sequence[Message]) -> None:
        """Set the messages before the first turn, the newest that may be kept."""
        host, registry = self._host, self._registry
        if host is None or registry.history is not None or not registry.may_keep(host.owner):
            return
        limits = registry.settings
        seed(host, bounded(messages, limits.max_history_turns, limits.max_history_chars))
        registry.weigh(host)

    def aside(self, messages: list[Message], question: InputText, turn: RunningTurn) -> None:
        """Ask in a session of its own, whose events go to `turn`."""
        registry, caller = self._registry, self.caller
        try:
            host = registry.own_ids.once(caller.principal, secrets.token_hex(16), caller.owner)
        except Unavailable:
            turn.response.fail("overload", "the server is full; try again")
            return
        limits = registry.settings
        seed(host, bounded(messages, limits.max_history_turns, limits.max_history_chars))
        host.act(host.core.side_channel.request, question)
        start = host.core.outside.start_of(question.id)
        if start is None:
            turn.response.fail("overload", "the server is busy; try again")
            return

        def cut() -> None:
            interrupt = Interrupt(id=InterruptId(secrets.token_hex(8)), input_id=question.id)
            host.act(host.core.side_channel.request, interrupt)

        turn.cut = cut
        wire = _PartWire(self._below, host)
        stream = TurnStream(wire, _Aside(turn), registry, caller, host, question.id, interrupts=True)
        self.lost.add_done_callback(lambda lost: stream.disconnected())
        stream.start(start)

    # --- from the session ------------------------------------------------------------------------

    def translate(self, event: ServerEvent) -> None:
        """Take an event of the session, in order."""
        if self._dialogue is not None:
            self._dialogue.take(event)


class _Aside:
    """Translator of a turn outside of the conversation, for its response."""

    heartbeat = b""

    def __init__(self, turn: RunningTurn) -> None:
        self.over = False
        self._turn = turn

    def read(self, event: TurnEvent) -> Iterator[bytes]:
        """Write an event to the response."""
        self._turn.take(event)
        self.over = self._turn.response.over
        yield from ()

    def cut(self, code: Code) -> Iterator[bytes]:
        """End the response before its turn."""
        self.over = True
        self._turn.response.fail(code.name, code.reason)
        yield from ()


class _PartWire:
    """Wire of a stream on a shared socket; its end ends its own session."""

    def __init__(self, below: Wire, host: SessionHost) -> None:
        self._below = below
        self._host = host

    @property
    def writable(self) -> bool:
        """Whether output may be written."""
        return self._below.writable

    def write(self, frames: object) -> None:
        """Write nothing: the response has written."""

    def close(self, code: Code) -> None:
        """End the session."""
        loop = self._host.loop
        loop.call_soon(self._host.act, self._host.core.receive, SessionClose())

    def abort(self) -> None:
        """End the session."""
        self.close(CLOSED)


MAX_VALUES = 20_000
"""Maximum number of values in an event, keys included."""
