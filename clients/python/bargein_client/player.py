"""Player of a session's audio: samples, and reports of those played."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

import bargein_protocol as bp
from bargein_protocol import TurnId

from .errors import BargeinError
from .events import SessionEvent
from .session import ClientSession

REPORT_S = 0.1
_MAX_TURNS = 32
SAMPLE_BYTES = 2


class _Account:
    """Audio of one turn, in bytes."""

    def __init__(self, turn_id: TurnId, session: ClientSession) -> None:
        self.turn_id = turn_id
        self.session = session
        self.waiting: deque[bytes] = deque()
        self.played = 0
        self.reported = -1
        self.over = False


class AudioPlayer:
    """Gives turns' audio to a loudspeaker, and counts the samples taken.

        player = AudioPlayer(session.audio.output)
        task = asyncio.create_task(player.run(session))
        loudspeaker(callback=player.read)

    Audio is made faster than it is played, so a turn may have ended on the server while it still sounds.
    It is silent from the next `read` on when the turn is held, or interrupted by either side. Playback is
    reported every 100 ms and when it stops, so the server records which words were heard.

    Args:
        audio_format: Format that the server grants, `session.audio.output`.

    Raises:
        ValueError: The encoding is not `pcm16`.

    Attributes:
        format: The format.
    """

    def __init__(self, audio_format: bp.AudioFormat) -> None:
        if audio_format.encoding != "pcm16":
            raise ValueError(f"expected pcm16, got {audio_format.encoding}: ask for it in connect(audio=...)")
        self.format: bp.AudioFormat = audio_format
        self._accounts: dict[TurnId, _Account] = {}
        self._order: deque[_Account] = deque()
        self._held: set[TurnId] = set()
        self._lock = Lock()  # `read` runs in the thread of the loudspeaker

    @property
    def playing(self) -> TurnId | None:
        """The turn that sounds or will sound next; None in silence."""
        with self._lock:
            return self._order[0].turn_id if self._order else None

    def played_ms(self, turn_id: TurnId) -> int:
        """Return how much of a turn's audio was played, in milliseconds."""
        with self._lock:
            account = self._accounts.get(turn_id)
            return 0 if account is None else self._ms(account)

    def read(self, samples: int) -> bytes:
        """Return the loudspeaker's next samples, silence when none are there.

        It may be called from any thread, and never waits for anything but another call of this object.
        """
        wanted, pieces = samples * SAMPLE_BYTES, list[bytes]()
        with self._lock:
            while wanted and self._order:
                account = self._order[0]
                if account.turn_id in self._held or not account.session._is_delivered(account.turn_id):
                    break
                if not account.waiting:
                    if not account.over:
                        break
                    self._order.popleft()
                    continue
                piece = account.waiting.popleft()
                if len(piece) > wanted:
                    account.waiting.appendleft(piece[wanted:])
                    piece = piece[:wanted]
                account.played += len(piece)
                wanted -= len(piece)
                pieces.append(piece)
        return b"".join(pieces) + bytes(wanted)

    def take(self, event: SessionEvent, session: ClientSession) -> None:
        """Take an event of the session, in its order."""
        if isinstance(event, bp.AudioDelta):
            if event.audio and not event.source:
                self._play(event, session)
        elif isinstance(event, bp.TurnHeld):
            with self._lock:
                self._held.add(event.turn_id)
            self._report(event.turn_id)
        elif isinstance(event, bp.TurnResumed):
            with self._lock:
                self._held.discard(event.turn_id)
        elif isinstance(event, bp.TurnEnded):
            self._end(event)

    async def run(self, session: ClientSession) -> None:
        """Play the audio of a session until it is over.

        Raises:
            BargeinError: The session ended in another way than by a close.
        """
        with self._reports():
            async for event in session.events():
                self.take(event, session)

    @contextmanager
    def _reports(self) -> Iterator[None]:
        task = asyncio.get_running_loop().create_task(self._keep_reporting(), name="playback reports")
        try:
            yield
        finally:
            task.cancel()

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            for turn_id in list(self._accounts):
                self._report(turn_id)

    def _play(self, event: bp.AudioDelta, session: ClientSession) -> None:
        account = self._accounts.get(event.turn_id)
        if account is None:
            account = _Account(event.turn_id, session)
            with self._lock:
                self._accounts[event.turn_id] = account
                self._order.append(account)
                while len(self._accounts) > _MAX_TURNS:
                    del self._accounts[next(iter(self._accounts))]
        with self._lock:
            account.waiting.append(event.audio[: len(event.audio) // SAMPLE_BYTES * SAMPLE_BYTES])

    def _end(self, event: bp.TurnEnded) -> None:
        account = self._accounts.get(event.turn_id)
        with self._lock:
            self._held.discard(event.turn_id)
            if account is not None:
                account.over = True
                if event.status == "interrupted":
                    account.waiting.clear()
                    if account in self._order:
                        self._order.remove(account)
        self._report(event.turn_id)

    def _report(self, turn_id: TurnId) -> None:
        account = self._accounts.get(turn_id)
        if account is None:
            return
        with self._lock:
            ms = self._ms(account)
        if ms != account.reported:
            account.reported = ms
            with suppress(BargeinError):  # the session is over
                account.session._report_played(turn_id, bp.Played(audio_ms=ms))

    def _ms(self, account: _Account) -> int:
        return account.played * 1000 // (SAMPLE_BYTES * self.format.rate)
