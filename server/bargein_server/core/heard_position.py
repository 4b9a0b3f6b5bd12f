"""Heard position: the part of a turn that its user has received.

A turn's output is made faster than it is read or played, so three positions differ: the output of the
agent, the output that a live socket took, and the output that the client reports as rendered or played.
Reports take precedence; without any, the heard part is the output that a live socket took (contract 7).
Positions only move forward, and a report never reaches beyond the output that was sent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from msgspec import Struct

from bargein_protocol import NO_SEQ, Heard, LaneFold, Played, Seq
from bargein_protocol import Playback as PlaybackEvent


class HeardPosition(Struct, gc=False):  # numbers alone: the garbage collector need not traverse it
    """The heard position of one turn.

    Attributes:
        taken: The turn's last number that a live socket took, live or replayed.
        reported: Whether the client has reported anything.
    """

    taken: Seq = NO_SEQ
    reported: bool = False
    _seq: int | None = None
    _audio_ms: int | None = None
    _chars: int | None = None

    def report(self, played: Played | PlaybackEvent) -> None:
        """Record a client's report.

        Each field may be absent, and an older report changes nothing.
        """
        self._seq = _later(self._seq, played.seq)
        self._audio_ms = _later(self._audio_ms, played.audio_ms)
        self._chars = _later(self._chars, played.chars)
        self.reported = not (self._seq is None and self._audio_ms is None and self._chars is None)

    @classmethod
    def of(cls, taken: Seq, seq: int | None, audio_ms: int | None, chars: int | None) -> HeardPosition:
        """Return a position from the numbers taken and reported."""
        reported = not (seq is None and audio_ms is None and chars is None)
        return cls(taken, reported, seq, audio_ms, chars)

    def reports(self, lane: LaneFold) -> tuple[int | None, int | None, int | None]:
        """Return the reported number, milliseconds and characters.

        The number counts as the characters and milliseconds up to it, because a record of the lane does
        not have the numbers of all of its characters.
        """
        if self._seq is None:
            return None, self._audio_ms, self._chars
        chars, audio_ms = _chars_at_seq(lane, self._seq), _ms_at_seq(lane, self._seq)
        return self._seq, max(self._audio_ms or 0, audio_ms), max(self._chars or 0, chars)

    def heard(self, lane: LaneFold) -> Heard:
        """Return the heard part of the turn's main lane."""
        reported = self.reported
        if not reported and not lane.audio:
            sent = lane.text.chars_at(self.taken)
            return Heard(seq=self.taken, text=str(lane.text)[:sent], audio_ms=0)
        sent_chars, sent_ms = _chars_at_seq(lane, self.taken), _ms_at_seq(lane, self.taken)
        if not reported:
            return Heard(seq=self.taken, text=_text(lane, sent_chars), audio_ms=sent_ms)
        chars = audio_ms = 0
        seq: int = NO_SEQ
        if self._seq is not None:
            seq = min(self._seq, self.taken)
            chars = _chars_at_seq(lane, seq)
            audio_ms = _ms_at_seq(lane, seq)
        if self._audio_ms is not None:
            audio_ms = max(audio_ms, min(self._audio_ms, sent_ms))
            chars = max(chars, _chars_at_ms(lane, audio_ms))
            seq = max(seq, _seq_at_ms(lane, audio_ms))
        if self._chars is not None:
            chars = max(chars, min(self._chars, sent_chars))
            seq = max(seq, _seq_at_chars(lane, chars))
        # An empty event, or speech that an agent placed over other speech, may reach beyond the sent output.
        seq, chars, audio_ms = min(seq, self.taken), min(chars, sent_chars), min(audio_ms, sent_ms)
        return Heard(seq=Seq(seq), text=_text(lane, chars), audio_ms=audio_ms)


def whole_text(lane: LaneFold) -> str:
    """Return the whole text of a lane, or else the words of its audio."""
    if lane.text.length:
        return str(lane.text)
    return "".join(span.text or "" for span in lane.audio)


def _later(before: int | None, reported: int | None) -> int | None:
    if reported is None:
        return before
    return reported if before is None else max(before, reported)


def _text(lane: LaneFold, chars: int) -> str:
    return whole_text(lane)[:chars] if chars else ""


def _chars_at_seq(lane: LaneFold, seq: int) -> int:
    if lane.text.length:
        return lane.text.chars_at(seq)
    spans = bisect_right(lane.audio_seqs, seq)
    return sum(len(span.text or "") for span in lane.audio[:spans])


def _seq_at_chars(lane: LaneFold, chars: int) -> int:
    if lane.text.length:
        return lane.text.seq_at(chars)
    seq: int = NO_SEQ
    for span, span_seq in zip(lane.audio, lane.audio_seqs, strict=True):
        chars -= len(span.text or "")
        if chars < 0:
            break
        seq = span_seq
    return seq


def _ms_at_seq(lane: LaneFold, seq: int) -> int:
    spans = bisect_right(lane.audio_seqs, seq)
    if not spans:
        return 0
    last = lane.audio[spans - 1]
    return last.start_ms + last.duration_ms


def _seq_at_ms(lane: LaneFold, audio_ms: int) -> int:
    """Return the number of the last event whose audio was played to its end."""
    spans = bisect_right(lane.audio, audio_ms, key=lambda span: span.start_ms + span.duration_ms)
    return lane.audio_seqs[spans - 1] if spans else NO_SEQ


def _chars_at_ms(lane: LaneFold, audio_ms: int) -> int:
    """Return the number of characters in the first milliseconds of speech.

    Spans that carry their words are cut at a word within the span that was playing. Where text and
    sound come as separate events, text that was sent before the sound that was playing is heard.
    """
    started = bisect_left(lane.audio, audio_ms, key=lambda span: span.start_ms)
    if not started:
        return 0
    if lane.text.length:
        return lane.text.chars_at(lane.audio_seqs[started - 1])
    whole = sum(len(span.text or "") for span in lane.audio[: started - 1])
    last = lane.audio[started - 1]
    words = last.text or ""
    played = audio_ms - last.start_ms
    if played >= last.duration_ms:
        return whole + len(words)
    cut = len(words) * played // last.duration_ms
    return whole + (words.rfind(" ", 0, cut + 1) + 1)
