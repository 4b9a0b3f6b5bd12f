"""Input audio of a session: the user's speech, in acceptable pieces."""

from __future__ import annotations

from typing import Protocol

import bargein_protocol as bp

from .outbox import SendQueue
from .turn import ClientTurn

PIECE_MS = 20
MAX_QUEUED_MS = 2000
"""Sound that waits for a slow connection; more is dropped, because late speech misleads the server."""


class AudioInput:
    """Input audio on the current channel, without I/O.

    Args:
        queue: Takes the events.
        asked: The audio that the application asks for; None for none.

    Attributes:
        asked: The audio that the application asks for.
        granted: The audio that the server grants on the current channel; None without any.
        dropped: Bytes that were dropped: offline, or because the connection was too slow.
    """

    def __init__(self, queue: SendQueue, asked: bp.SessionAudio | None) -> None:
        self.asked = asked
        self.granted: bp.SessionAudio | None = None
        self.dropped = 0
        self._queue = queue
        self._tail = bytearray()

    @property
    def format(self) -> bp.AudioFormat | None:
        """Format of the sound that may be sent now; None without any."""
        granted = self.granted.input if self.granted is not None else None
        return granted if self.asked is not None and granted == self.asked.input else None

    def open(self, granted: bp.SessionAudio | None) -> None:
        """Begin on a channel; sound that was meant for an earlier one is dropped."""
        self.close()
        self.granted = granted

    def close(self) -> None:
        """End the use of a channel."""
        self.granted = None
        self.dropped += len(self._tail)
        self._tail.clear()

    def send(self, sound: bytes) -> bool:
        """Send sound in pieces of 20 ms; a shorter rest waits for more.

        Returns:
            False when sound was dropped.
        """
        audio_format = self.format
        if audio_format is None or not self._queue.accepts:
            self.dropped += len(sound)
            return False
        self._tail += sound
        size = max(1, audio_format.bytes_of(PIECE_MS))
        whole = len(self._tail) // size * size
        taken = self._put(bytes(self._tail[:whole]), size)
        del self._tail[:whole]
        return taken

    def flush(self) -> None:
        """Send the rest of the sound."""
        audio_format = self.format
        if audio_format is not None and self._tail:
            whole = len(self._tail) // audio_format.sample_bytes * audio_format.sample_bytes
            self._put(bytes(self._tail[:whole]), max(1, whole))
        self._tail.clear()

    def clear(self) -> None:
        """Take the speech back that no turn was asked for with."""
        self._tail.clear()
        if self.format is not None and self._queue.accepts:
            self._queue.append(bp.InputClear())

    def _put(self, sound: bytes, size: int) -> bool:
        taken = True
        for start in range(0, len(sound), size):
            if self._queue.audio_events() >= MAX_QUEUED_MS // PIECE_MS:
                self.dropped += len(sound) - start
                return False
            self._queue.append(bp.InputAudio(audio=sound[start : start + size]))
        return taken


class MicrophoneSession(Protocol):
    """The parts of a session that its microphone uses."""

    @property
    def _audio(self) -> AudioInput: ...

    def _commit(self) -> ClientTurn: ...

    def _send_sound(self, sound: bytes) -> bool: ...

    def _clear_sound(self) -> None: ...


class Microphone:
    """Input audio of a `ClientSession`.

    Nothing is kept for later: sound that cannot be sent now is dropped.
    """

    def __init__(self, session: MicrophoneSession) -> None:
        self._session = session

    @property
    def format(self) -> bp.AudioFormat | None:
        """Format of the sound to send; None while the server takes none."""
        return self._session._audio.format

    @property
    def detects(self) -> bool:
        """Whether the server detects the end of speech; else `commit` does."""
        granted = self._session._audio.granted
        detection = granted.turn_detection if granted is not None else None
        return detection is None or detection.type == "server"

    def send(self, sound: bytes) -> bool:
        """Send sound, in whole samples of `format`, as long as you like.

        It goes out in pieces of 20 ms. Do not send sound faster than it can be said, apart from 5 s in
        advance.

        Returns:
            False when sound was dropped, because there is no connection, it is too slow, or the server takes
            none.

        Raises:
            SessionClosed: The session is over.
        """
        return self._session._send_sound(sound)

    def commit(self) -> ClientTurn:
        """End the speech and ask for a turn with it.

        Its `accepted()` raises `InputRejected` with the code `no_speech` when nothing was said.

        Raises:
            TooManyPending: Too many requests wait for an answer; nothing was sent.
            SessionClosed: The session is over.
        """
        return self._session._commit()

    def clear(self) -> None:
        """Forget the speech so far.

        Raises:
            SessionClosed: The session is over.
        """
        self._session._clear_sound()
