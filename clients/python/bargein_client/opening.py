"""Opening of channels: the first frame, and the position in the session."""

from __future__ import annotations

from msgspec import structs

import bargein_protocol as bp

from .errors import ServerViolation
from .outbox import Outbox
from .phases import gap_before


class SequenceTracker:
    """Position of the client in the session's stream of numbered events.

    Attributes:
        last_seq: The last number that was taken.
        duplicates: Number of events that came twice and were dropped.
    """

    def __init__(self) -> None:
        self.last_seq = bp.NO_SEQ
        self.duplicates = 0
        self._gap_after: bp.Seq | None = None
        self._gap_at_resume: bp.Seq | None = None

    def begin_channel(self) -> None:
        """Note that a new channel is open; its resume may fill the gap."""
        self._gap_at_resume = self._gap_after

    def count_missing(self, event: bp.ServerEvent | bp.UnknownEvent) -> int:
        """Return the number of events that are missing before this one for good.

        Raises:
            ServerViolation: Events are missing, and no resume has asked for them yet.
        """
        missing = gap_before(event, self.last_seq)
        if not missing:
            return 0
        if self._gap_at_resume != self.last_seq:
            self._gap_after = self.last_seq
            raise ServerViolation(f"expected number {self.last_seq + 1}, {missing} are missing")
        self._gap_after = self._gap_at_resume = None
        return missing

    def is_duplicate(self, seq: bp.Seq) -> bool:
        """Return whether a number was taken before, and count it if so."""
        if seq > self.last_seq:
            return False
        self.duplicates += 1
        return True


class Opening:
    """Content of the first frame of a channel.

    Args:
        template: The `session.open` of a fresh session.
        resume: Where to go on with a session that exists; None for a fresh one.

    Raises:
        ValueError: A value cannot be encoded, such as text that is not UTF-8.

    Attributes:
        session_id: Public id of the session; None before the first `session.opened`.
        limits: The server's limits; None before the first `session.opened`.
        epoch: Epoch of the numbers.
        sequence: Position in the numbered events.
        sent: Ids of the requests in the last first frame.
        refused: Reason why the server did not resume the session that was given; None if it did.
        is_adopted: Whether the session began elsewhere, and no channel has opened it here yet.
    """

    def __init__(self, template: bp.SessionOpen, resume: bp.Resume | None = None) -> None:
        bp.JSON.encode(structs.replace(template, resume=resume))  # fails here, not in the task that sends
        self._template = template
        self._token = bp.Token("")
        self.session_id: bp.SessionId | None = None
        self.limits: bp.Limits | None = None
        self.epoch = bp.Epoch("")
        self.sequence = SequenceTracker()
        self.sent = set[str]()
        self.refused: str | None = None
        self.is_adopted = resume is not None
        if resume is not None:
            self.session_id, self._token = resume.session_id, resume.token
            self.epoch, self.sequence.last_seq = resume.cursor.epoch, resume.cursor.seq

    def resume_from(self, seq: bp.Seq) -> bp.Resume | None:
        """Return the request that resumes after a number; None without a session."""
        if self.session_id is None:
            return None
        cursor = bp.Cursor(epoch=self.epoch, seq=seq)
        return bp.Resume(session_id=self.session_id, token=self._token, cursor=cursor)

    def first_frame(self, outbox: Outbox) -> bp.SessionOpen:
        """Return the first frame of a channel, with the requests that fit into it."""
        self.sent = set()
        self.sequence.begin_channel()
        resume = self.resume_from(self.sequence.last_seq)
        if resume is None:
            return self._template
        frame = structs.replace(self._template, resume=resume)
        if self.limits is None:
            return frame  # requests follow when the size of a frame is known
        pending = outbox.pending(frame, self.limits.frame_bytes)
        self.sent = {request.id for request in pending}
        return structs.replace(frame, pending=pending or None)

    def opened(self, event: bp.SessionOpened) -> None:
        """Take the server's answer in."""
        self.session_id, self.limits = event.session_id, event.limits
        self._token, self.epoch = event.token, event.epoch
        if self.is_adopted and not event.resumed:
            self.refused = event.reason or "unknown_session"
        self.is_adopted = False
        if not event.resumed:
            self.sequence.last_seq = bp.NO_SEQ
