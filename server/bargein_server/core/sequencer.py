"""The numbered stream of a session and the one connection that reads it.

A numbered event gets its number, its place in the log and its bytes in one step, `commit`. While a
client is attached and up to date, that is the step in which the frame is handed to the transport;
while nobody is attached, or the client still replays, the frame goes to the log alone. So a purge
can never leave a hole, and the client sees numbers without gaps.

Two lanes lead to the transport. What is *ready* is encoded: answers, and everything numbered but
the output of agents. It is always written, past a full buffer too, and the end of a turn that was
interrupted is handed over before anything else is done about it. Output waits in its turn and is
numbered one by one as `OutputPump.next_frames` takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.structs import force_setattr

from bargein_protocol import (
    NO_SEQ,
    NO_TURN,
    Codec,
    Cursor,
    Epoch,
    Numbered,
    ReplayDone,
    Seq,
    ServerEvent,
    TextDelta,
    TurnEnded,
    TurnFold,
    TurnId,
)

from .observer import NOBODY, Observer
from .replay_log import ReplayLog
from .turn_record import Misuse
from .utterance import Before, Utterance

N = TypeVar("N", bound=Numbered)
HandOver = Callable[[list[bytes]], None]


class Sequencer:
    """See the module.

    Attributes:
        epoch: Names this numbering.
        live: Whether a client is attached and has everything that was numbered, so that what is
            numbered next can be handed to it.
        handed: How many frames were ready for or handed to clients; shows whether it was silent.
        ready: Frames that must be written now, in order; `take_ready` takes them.
        aside: Where answers go instead while somebody asks who is not the attached client.
    """

    __slots__ = (
        "_codec", "_hand_over", "_log", "_log_codec", "_log_encode", "_observer", "_replayed", "aside",
        "epoch", "handed", "live", "ready",
    )  # fmt: skip

    def __init__(self, epoch: Epoch, log: ReplayLog, codec: Codec, observer: Observer = NOBODY) -> None:
        self.epoch = epoch
        self.live = False
        self.handed = 0
        self.aside: list[ServerEvent] | None = None
        self._log = log
        self._log_encode = codec.encode
        self._log_codec = codec  # of the client that was last attached: the likeliest to come back
        self._codec: Codec | None = None
        self._hand_over: HandOver | None = None
        self.ready: list[bytes] = []  # a step's few; an empty deque would take 0.7 KiB in every session
        self._replayed: Seq = NO_SEQ
        self._observer = observer

    @property
    def attached(self) -> bool:
        """Whether a client is attached."""
        return self._codec is not None

    @property
    def top(self) -> Seq:
        """The last number."""
        return self._log.top

    @property
    def first(self) -> Seq:
        """The oldest number that the log still has; one more than `top` when it has none."""
        return self._log.first

    def logged(self, seq: Seq, codec: Codec) -> bytes:
        """Return a frame of the log.

        Raises:
            KeyError: It has fallen off, or is not there yet.
        """
        return self._log.read(seq, codec)[0]

    @property
    def replayed(self) -> Seq:
        """The last number that the attached client has been given, while it is not live."""
        return self._replayed

    def attach(self, codec: Codec, hand_over: HandOver | None = None) -> None:
        """Attach a client that has seen everything; `replay_from` says otherwise.

        Args:
            codec: What its frames are encoded in.
            hand_over: Takes frames that are not to wait for anything; it raises nothing.
        """
        self.ready.clear()  # numbered frames among them are in the log, the others died with their line
        self._codec = self._log_codec = codec
        self._log_encode = codec.encode
        self._hand_over = hand_over
        self.live = True

    def replay_from(self, cursor: Cursor) -> bool:
        """Hold live frames back until everything after the cursor was handed over.

        Returns:
            Whether the log still has all of it. If not, the client needs a snapshot, and
            `finish_replay` after that.
        """
        self.live = False
        self._replayed = cursor.seq
        return cursor.seq + 1 >= self._log.first

    def detach(self) -> None:
        """Let the client go; from here on frames go to the log alone."""
        self._codec = self._hand_over = None
        self.ready.clear()
        self.live = False

    def answer(self, event: ServerEvent) -> None:
        """Make an unnumbered event ready; without a client it is dropped."""
        if self.aside is not None:
            self.aside.append(event)
        elif self._codec is not None:
            self.ready.append(self._codec.encode(event))
            self.handed += 1
        else:
            return
        self._observer.answered(event)

    def commit(self, event: N, at_once: bool = False) -> N:
        """Number an event, log it, and make its frame ready for a live client.

        Args:
            event: A new one, that nobody else holds: it is given its number.
            at_once: Hand it over before the books are kept, after all that is ready.

        Returns:
            The event.
        """
        force_setattr(event, "seq", self._log.top + 1)  # it is new, and nobody else's yet
        frame = self._log_encode(event)  # type: ignore[arg-type]
        if self.live:
            self.ready.append(frame)
            self.handed += 1
            if at_once and self._hand_over is not None:
                self._hand_over(self.take_ready())
        end = event if isinstance(event, TurnEnded) else None
        self._log.append(frame, self._log_codec, getattr(event, "turn_id", NO_TURN), end)
        return event

    def commit_text(self, fold: TurnFold, text: str) -> bytes:
        """Number, fold in and log a text delta of a turn's own voice: `commit` for the frequent case.

        Returns:
            The frame, which the caller hands over.

        Raises:
            UnicodeEncodeError: The text has a lone surrogate; nothing has changed.
        """
        seq: Seq = self._log.top + 1  # type: ignore[assignment]  # calling a NewType would cost a call per token
        frame = self._log_encode(TextDelta(seq=seq, turn_id=fold.turn_id, text=text))
        self._enter_text(fold, seq, text, frame)
        self.handed += 1
        return frame

    def _enter_text(self, fold: TurnFold, seq: Seq, text: str, frame: bytes) -> None:
        if fold.add_text(seq, text):
            self._log.append_spoken(1, len(frame), self._log_codec, fold.turn_id, fold.main_lane.text)
        else:
            self._log.append(frame, self._log_codec, fold.turn_id)

    def commit_texts(self, fold: TurnFold, texts: Sequence[str], room: int) -> list[bytes]:
        """Number, fold in and log text deltas of a turn's own voice, as `commit_text` does with one.

        Args:
            fold: That of the turn.
            texts: What it says.
            room: In bytes, for the frames; the last one may go beyond it.

        Returns:
            The frames, of the first texts: none when the first one has a lone surrogate.
        """
        encode, turn_id = self._log_encode, fold.turn_id
        first = seq = Seq(self._log.top + 1)
        frames: list[bytes] = []
        size = 0
        for text in texts:
            try:
                frame = encode(TextDelta(seq=seq, turn_id=turn_id, text=text))
            except UnicodeEncodeError:
                break
            frames.append(frame)
            seq += 1  # type: ignore[assignment]  # calling a NewType would cost a call per token
            size += len(frame)
            if size >= room:
                break
        said = texts[: len(frames)]
        if fold.add_texts(first, said):
            self._log.append_spoken(len(frames), size, self._log_codec, turn_id, fold.main_lane.text)
        else:
            for n, frame in enumerate(frames):
                self._enter_text(fold, Seq(first + n), texts[n], frame)
        self.handed += len(frames)
        return frames

    def begin_utterance(self, turn_id: TurnId, before: Before | None) -> Utterance:
        """Return an utterance whose numbers come next."""
        return Utterance(turn_id, Seq(self._log.top + 1), self._log_encode, before)

    def commit_utterance(self, fold: TurnFold, said: Utterance) -> None:
        """Fold in and log what was said; the client has it already.

        Raises:
            Misuse: Something else was numbered since it began; nothing has changed.
        """
        log, count = self._log, len(said.pieces)
        if said.first != log.top + 1:
            raise Misuse(f"expected an utterance that begins with {log.top + 1}, got one with {said.first}")
        if fold.add_texts(said.first, said.pieces):
            log.append_spoken(count, said.size, self._log_codec, fold.turn_id, fold.main_lane.text)
            self.handed += count
        else:
            for piece in said.pieces:
                self.commit_text(fold, piece)

    def take_ready(self) -> list[bytes]:
        """Return the frames that must be written now, in order, and forget them."""
        frames, self.ready = self.ready, []
        return frames

    def next_replayed(self) -> tuple[bytes, TurnId, Seq] | None:
        """Return the next frame of the replay with its turn and number.

        After the last one the client is live and `replay.done` is ready; then, and for a client
        that is live already, this returns None.

        Raises:
            KeyError: The log has trimmed what comes next; the client needs a snapshot.
        """
        if self.live or self._codec is None:
            return None
        if self._replayed == self._log.top:
            self.finish_replay()
            return None
        seq = Seq(self._replayed + 1)
        frame, turn_id = self._log.read(seq, self._codec)
        self._replayed = seq
        self.handed += 1
        return frame, turn_id, seq

    def finish_replay(self) -> None:
        """Make the client live and tell it so."""
        self.live = True
        self.answer(ReplayDone(through=self._log.top))
