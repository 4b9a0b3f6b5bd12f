"""Persistence of a session: changes to records, and back.

A process that dies leaves numbers that it gave and that no store has. So the next process leaps ahead in
the same epoch (`LEAP`), and what stands between is a *gap*: a cursor inside is granted when a turn was open,
because its last output had such numbers; a snapshot then replaces what the client holds. Otherwise the
client has seen what nobody knows any more, and the resume is refused.
"""

from __future__ import annotations

import marshal
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from bargein_protocol import (
    AudioDelta,
    IndexedText,
    LaneFold,
    Seq,
    TextDelta,
    ToolResult,
    TurnEvent,
    TurnFold,
    TurnId,
)

from .change_log import ChangeLog
from .heard_position import HeardPosition, whole_text
from .identity import Identity
from .lifecycle import Flow, Stage
from .records import (
    Changes,
    Gap,
    Head,
    HeardRecord,
    LaneRecord,
    Piece,
    Stored,
    StoredTurn,
    encode,
)
from .requests import Requests
from .sequencer import Sequencer
from .tool_ledger import CallRecord, TurnCalls
from .turn_record import MAX_TURN_CHARS, NODE_LOST, TurnRecord
from .turn_scheduler import TurnScheduler
from .values import SessionValues

LEAP = 2**20
"""Numbers that the next process leaves out, more than one can give between two writes."""

MAX_GAPS = 64

TOOL_LOST = "the server was lost while this ran: it may or may not have taken effect"


class Parts(Struct, frozen=True):
    """The parts of a session that are kept."""

    identity: Identity
    sequencer: Sequencer
    turns: TurnScheduler
    requests: Requests
    values: SessionValues


class Persistence:
    """Writer and reader of one session's records.

    Args:
        changes: The session's change log.
        parts: Its parts.

    Attributes:
        changes: The change log.
        head: Fields of the session's head that are not its own: principal, owner, time of its start.
        gaps: Numbers that nobody knows.
    """

    __slots__ = ("_parts", "changes", "gaps", "head")

    def __init__(self, changes: ChangeLog, parts: Parts) -> None:
        self._parts = parts
        self.changes = changes
        self.head = Head(parts.identity.session_id, parts.sequencer.epoch)
        self.gaps: list[Gap] = []

    @property
    def last_seq(self) -> Seq:
        """The last number that was given."""
        return self._parts.sequencer.last

    @property
    def awaits_results(self) -> bool:
        """Whether a tool of an ended turn runs, whose result would be lost."""
        return any(
            call.result is None and (call.background or call.accept_late)
            for turn in self._parts.turns.turns.values()
            if turn.calls is not None
            for call in turn.calls.begun
        )

    # --- to the store ----------------------------------------------------------------------------

    def collect(self, now: float, wall: float) -> Changes | None:
        """Return and forget the changes, None without any.

        An open run of text stays open.

        Args:
            now: The time of the session's clock.
            wall: The same time in seconds since 1970.
        """
        log, sequencer, turns = self.changes, self._parts.sequencer, self._parts.turns
        if log.turns or log.whole:
            sequencer.settle()
        else:
            sequencer.capture_text()
        if not (log.whole or log.head or log.turns or log.dropped or log.ended or log.pieces or log.replies):
            log.clear()
            return None
        seq = sequencer.last
        if log.pieces and not (log.whole or log.head or log.turns or log.dropped or log.ended or log.replies):
            # The usual case, ten times a second for each session that speaks.
            return Changes(seq, log.mark, pieces=_encoded(log.take_pieces()))
        touched = (
            list(turns.turns) if log.whole else [turn_id for turn_id in log.turns if turn_id in turns.turns]
        )
        replies = self._parts.requests.replies.all() if log.whole else log.replies.items()
        pieces = self._open_pieces() if log.whole else log.pieces
        changes = Changes(
            seq,
            log.mark,
            log.whole,
            encode(self._head(now, wall)) if log.head or log.whole else None,
            [
                (turn_id, log.positions.get(turn_id, seq), encode(_turn_record(turns.turns[turn_id], seq)))
                for turn_id in touched
            ],
            log.dropped,
            log.ended,
            [(request_id, encode(reply)) for request_id, reply in replies],
            _encoded(pieces),
        )
        log.clear()
        return changes

    def _head(self, now: float, wall: float) -> Head:
        parts = self._parts
        current, previous, until, confirmed = parts.identity.hashes()
        return replace(
            self.head,
            session_id=parts.identity.session_id,
            epoch=parts.sequencer.epoch,
            token=current,
            previous=previous,
            previous_until=wall + (until - now) if previous else 0.0,
            confirmed=confirmed,
            metadata=parts.requests.metadata,
            values=parts.values.encoded(),
            early=parts.requests.early(),
            gaps=self.gaps,
        )

    def _open_pieces(self) -> list[Piece]:
        turn = self._parts.turns.current
        if turn is None or turn.stage is Stage.QUEUED:
            return []
        fold = turn.fold
        lanes = {
            source: _lane_record(lane, fold.last_output_seq, turn) for source, lane in fold.lanes.items()
        }
        return [Piece(turn.id, fold.last_seq, False, lanes=lanes)]

    # --- from the store --------------------------------------------------------------------------

    def restore(self, stored: Stored, now: float, wall: float, *, forgot: bool = False) -> None:
        """Fill a new session from its records; turns that were open fail.

        Args:
            stored: The records.
            now: The time of the session's clock.
            wall: The same time in seconds since 1970.
            forgot: Whether the store may lack more than the last output, which explains nothing then.
        """
        parts, head, log = self._parts, stored.head, self.changes
        log.whole = False  # the store has it
        parts.identity.restore((head.token, head.previous, now + head.previous_until - wall, head.confirmed))
        parts.requests.restore(head.metadata, head.early)
        parts.values.restore(head.values)
        parts.requests.replies.restore(stored.replies)
        self.head, self.gaps = head, list(head.gaps)
        pieces = [piece for piece in stored.pieces if piece.seq]
        opened = [turn for _, turn in stored.turns if turn.stage != "ended"]
        top: int = max([stored.seq, *(piece.seq for piece in pieces)])
        if not stored.clean or opened:
            self.gaps = [
                *self.gaps[1 - MAX_GAPS :],
                Gap(Seq(top), Seq(top + LEAP), bool(opened) and not forgot),
            ]
            top += LEAP
            log.touch_head()
        parts.sequencer.restore(head.epoch, Seq(top))
        log.told = Seq(top)
        parts.turns.now = now
        for position, record in stored.turns:
            log.positions[record.turn_id] = Seq(position)
            turn = _turn_of(record, [piece for piece in pieces if piece.turn_id == record.turn_id])
            if _lose_tools(turn):
                log.touch(turn.id)
            parts.turns.restore(turn)
        for turn in list(parts.turns.turns.values()):
            if turn.stage is not Stage.ENDED:
                parts.turns.end(turn, NODE_LOST)

    def explains(self, seq: Seq) -> bool:
        """Return whether the records explain a client's cursor."""
        return not any(gap.last < seq < gap.first and not gap.explained for gap in self.gaps)


def stored_turns(stored: Stored) -> list[TurnRecord]:
    """Return the turns of a stored session that no process continues."""
    return [
        _turn_of(record, [piece for piece in stored.pieces if piece.turn_id == record.turn_id])
        for _, record in stored.turns
    ]


def _encoded(pieces: list[Piece]) -> list[tuple[TurnId, int, bytes]]:
    return [
        (piece.turn_id, piece.seq, encode(piece if piece.event is None else _silent(piece)))
        for piece in pieces
    ]


def _silent(piece: Piece) -> Piece:
    event = piece.event
    if isinstance(event, AudioDelta):
        return Piece(piece.turn_id, piece.seq, piece.live, event=replace(event, audio=b""))
    return piece


def _turn_record(turn: TurnRecord, at: Seq) -> StoredTurn:
    fold, position = turn.fold, turn.heard_position
    ended = turn.stage is Stage.ENDED
    seq, audio_ms, chars = position.reports(fold.main_lane)
    asked = turn.input
    if turn.put_aside_metadata:
        asked = replace(asked, metadata=marshal.loads(turn.put_aside_metadata))
    record = StoredTurn(
        turn.id,
        asked,
        at,
        "ended" if ended else "queued" if turn.stage is Stage.QUEUED else "running",
        turn.barges_in,
        fold.started,
        HeardRecord(position.taken, seq, audio_ms, chars),
        turn.calls.begun if turn.calls is not None else [],
        turn.usage,
        fold.last_seq,
        fold.last_output_seq,
    )
    if ended and (end := fold.ended) is not None:
        record.lanes = {
            source: _lane_record(lane, fold.last_output_seq, turn) for source, lane in fold.lanes.items()
        }
        record.heard_chars = len(end.heard.text)
        record.end = replace(end, heard=replace(end.heard, text=""))
        record.dropped = fold.dropped
    return record


def _lane_record(lane: LaneFold, last: Seq, turn: TurnRecord) -> LaneRecord:
    marks: list[tuple[int, int]] = []
    if lane is turn.fold.main_lane and lane.text.length:
        seqs = sorted({min(turn.heard_position.taken, last), *lane.audio_seqs})
        marks = [(seq, lane.text.chars_at(seq)) for seq in seqs]
    return LaneRecord(lane.folded(), marks, list(lane.audio_seqs), lane.steps_of_calls())


def _lane_of(record: LaneRecord, last: Seq) -> LaneFold:
    lane = LaneFold.unfold(record.state, last)
    lane.max_chars = MAX_TURN_CHARS
    lane.text = IndexedText(max_chars=MAX_TURN_CHARS)
    text, ends = record.state.text, [(0, 0), *record.marks]
    for (_, start), (seq, end) in pairwise(ends):
        if end > start:
            lane.text.append(text[start:end], seq)
    if ends[-1][1] < len(text):
        lane.text.append(text[ends[-1][1] :], last)
    if record.audio_seqs:
        lane.audio_seqs = list(record.audio_seqs)
    lane.restore_steps(record.called_in)
    return lane


def _turn_of(record: StoredTurn, pieces: list[Piece]) -> TurnRecord:
    turn = TurnRecord(record.turn_id, record.input, record.barges_in)
    fold = turn.fold
    fold.input_id, fold.started, fold.dropped = record.input.id, record.started, record.dropped
    fold.last_seq, fold.last_output_seq = record.last_seq, record.last_output_seq
    turn.usage = record.usage
    heard: HeardRecord = record.heard
    taken: int = heard.taken
    if record.lanes:
        _set_lanes(fold, record.lanes)
    elif pieces:
        # The record may be newer than a piece, and its numbers would hide the piece.
        fold.last_seq = fold.last_output_seq = Seq(0)
        for piece in pieces:
            _add(fold, piece)
            if piece.live and piece.seq > record.at:
                taken = piece.seq
        fold.last_seq = Seq(max(fold.last_seq, record.last_seq))
        fold.last_output_seq = Seq(max(fold.last_output_seq, record.last_output_seq))
    turn.heard_position = HeardPosition.of(Seq(taken), heard.seq, heard.audio_ms, heard.chars)
    if record.calls:
        turn.calls = TurnCalls.of(record.calls)
    if record.end is not None:
        text = whole_text(fold.main_lane)[: record.heard_chars]
        fold.ended = replace(record.end, heard=replace(record.end.heard, text=text))
        fold.pack()
        turn.stage, turn.flow = Stage.ENDED, Flow.SHUT
    elif record.started:
        turn.stage = Stage.FINISHING  # it runs nowhere, so there is nothing to cancel
    return turn


def _set_lanes(fold: TurnFold, lanes: dict[str, LaneRecord]) -> None:
    for source, lane in lanes.items():
        fold.lanes[source] = _lane_of(lane, fold.last_output_seq)
    fold.main_lane = fold.lanes.setdefault("", fold.main_lane)


def _add(fold: TurnFold, piece: Piece) -> None:
    if piece.lanes is not None:
        fold.last_seq = fold.last_output_seq = Seq(piece.seq)
        _set_lanes(fold, piece.lanes)
    elif piece.text is not None:
        fold.apply(TextDelta(seq=piece.seq, turn_id=piece.turn_id, text=piece.text))
    elif isinstance(piece.event, TurnEvent):
        fold.apply(piece.event)


def _lose_tools(turn: TurnRecord) -> bool:
    """Give calls of a lost process a result; return whether there were any."""
    lost = [call for call in turn.calls.begun if call.result is None] if turn.calls is not None else []
    ended = turn.stage is Stage.ENDED
    lost = [call for call in lost if not ended or call.background or call.accept_late]
    if turn.fold.dropped:
        return False
    for call in lost:
        call.result = _lost(call)
        if ended:
            call.write_into(turn.fold)
    return bool(lost)


def _lost(call: CallRecord) -> ToolResult:
    return ToolResult(call_id=call.call_id, status="failed", error=TOOL_LOST)
