"""Access to a session for clients without cursors and tokens.

Such a client sends the whole conversation with every request and reads one turn at a time. It attaches at
the number before a turn's first event, so that the turn is replayed to it whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from bargein_protocol import Codec, Cursor, InputId, Seq, TurnId

from .history import Message, without_files
from .lifecycle import Stage
from .liveness import Liveness
from .output_pump import OutputPump
from .requests import ReplyCache
from .sequencer import HandOver, Sequencer
from .turn_record import TurnRecord
from .turn_scheduler import TurnScheduler


class Alignment(Struct, frozen=True):
    """Difference between a session and the conversation that a client has.

    Args:
        rewind_to: The first turn that the client does not have; None when it has all turns.
        complete: Whether the session lacks nothing once those turns are dropped. If not, it must be seeded
            from the client's messages, and `rewind_to` is its first turn.
    """

    rewind_to: TurnId | None = None
    complete: bool = True


class OutsideClient:
    """Conversation, turns and attachment of such a client.

    Attributes:
        kept_bytes: Approximate size of the messages before the session, as far as clients sent them.
    """

    __slots__ = ("_liveness", "_output", "_replies", "_sequencer", "_turns", "kept_bytes")

    def __init__(
        self,
        sequencer: Sequencer,
        turns: TurnScheduler,
        replies: ReplyCache,
        output: OutputPump,
        liveness: Liveness,
    ) -> None:
        self._sequencer = sequencer
        self._turns = turns
        self._replies = replies
        self._output = output
        self._liveness = liveness
        self.kept_bytes = 0

    def keep_idle(self) -> None:
        """Keep the session for `idle_s` without its client."""
        self._liveness.resumes_late = True

    def align(self, seed: Sequence[Message], given: Sequence[str], own: str = "") -> Alignment:
        """Compare the session with the user's texts that a client has.

        The session may have forgotten its oldest turns; the texts of the others decide. A turn that another
        client has asked for stays, also when this one has not seen it: then it cannot mean to drop it.

        Args:
            seed: The messages before the session.
            given: The texts before the input that is about to be sent, without lines that name files.
            own: Start of the ids of inputs that the client has sent.
        """
        seeded = [_text(str(message.get("content"))) for message in seed if message.get("role") == "user"]
        turns = self.turns()
        texts = [each.strip() for each in given]
        asked = [_text(turn.input.text) for turn in turns if turn.input.id.startswith(own)]
        for known in ([*seeded, *(_text(turn.input.text) for turn in turns)], [*seeded, *asked]):
            if known and len(texts) > len(known) and texts[-len(known) :] == known:
                return Alignment()
        lacking = Alignment(turns[0].id if turns else None, complete=False)
        if texts[: len(seeded)] != seeded:
            return lacking
        seen = _seen(turns, texts[len(seeded) :], own)
        if seen is None:
            seen = _seen(turns, texts[len(seeded) :], "")  # it may have turns of other clients, too
        if seen is None:
            return lacking
        return Alignment(next((turn.id for turn in turns[seen:] if turn.input.id.startswith(own)), None))

    def turns(self) -> list[TurnRecord]:
        """Return the turns of the conversation that ran or will run, oldest first."""
        self._sequencer.settle()
        return [
            turn
            for turn in self._turns.turns.values()
            if not turn.fold.dropped and (turn.fold.started or turn.stage is not Stage.ENDED)
        ]

    def waits_for(self, call_id: str) -> bool:
        """Return whether a call of the running turn waits for the client."""
        turn = self._turns.current
        return turn is not None and turn.calls is not None and turn.calls.waits_for(call_id)

    def start_of(self, input_id: InputId) -> Seq | None:
        """Return the number before the first event of an input's turn, if any."""
        seq = self._replies.numbered(input_id)
        return None if seq is None else Seq(seq - 1)

    def attach(self, codec: Codec, after: Seq, now: float, hand_over: HandOver | None = None) -> None:
        """Let a client drive the session from a number on.

        What was heard before stays as it is; what is replayed counts as heard. When the log does not reach
        back to the number, a snapshot of the turns comes first.

        Args:
            codec: Codec of its frames.
            after: The last number that it has, or does not need.
            now: The time.
            hand_over: Writes frames that do not wait until the host drains; raises nothing.
        """
        sequencer = self._sequencer
        self._turns.now = now
        sequencer.settle()
        self._liveness.attached(now)
        sequencer.attach(codec, hand_over)
        if sequencer.changes is not None:
            sequencer.changes.touch_head()
        if not sequencer.replay_from(Cursor(epoch=sequencer.epoch, seq=after)):
            self._output.send_snapshot(after)


def _text(text: str) -> str:
    return without_files(text).strip()


def _seen(turns: Sequence[TurnRecord], given: Sequence[str], own: str) -> int | None:
    """Return the number of turns up to the last that the client has.

    None when the session lacks one of its texts.
    """
    seen = 0
    for text in given:
        ahead = range(seen, len(turns))
        mine = next((n for n in ahead if turns[n].input.id.startswith(own)), len(turns))
        # The client's own turn first: one of another client before it may have the same text.
        order = [n for n in (mine, *range(seen, mine)) if n < len(turns)]
        found = next((n for n in order if _text(turns[n].input.text) == text), None)
        if found is None:
            return None
        seen = found + 1
    return seen
