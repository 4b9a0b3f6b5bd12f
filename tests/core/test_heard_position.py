"""What was heard, against a model that looks at every event."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from bargein_protocol import (
    AudioDelta,
    Heard,
    InputId,
    Playback,
    Played,
    Seq,
    Status,
    TextDelta,
    TurnFold,
    TurnId,
)
from bargein_server.core.heard_position import HeardPosition, whole_text

TURN = TurnId("t")
Event = TextDelta | AudioDelta | Status


def numbered(events: list[Event]) -> list[Event]:
    """Number events, and set the audio of one after the other."""
    made: list[Event] = []
    start = 0
    for seq, event in enumerate(events, 1):
        if isinstance(event, AudioDelta):
            made.append(
                AudioDelta(
                    seq=Seq(seq), turn_id=TURN, audio=b"", start_ms=start, duration_ms=event.duration_ms,
                    text=event.text,
                )
            )  # fmt: skip
            start += event.duration_ms
        elif isinstance(event, TextDelta):
            made.append(TextDelta(seq=Seq(seq), turn_id=TURN, text=event.text, source=event.source))
        else:
            made.append(Status(seq=Seq(seq), turn_id=TURN, message=event.message))
    return made


WORDS = st.text("ab ", max_size=12)
TEXTS = st.builds(
    lambda text, source: TextDelta(text=text, source=source), WORDS, st.sampled_from(["", "", "b"])
)
SPEECH = st.builds(lambda ms, text: AudioDelta(audio=b"", start_ms=0, duration_ms=ms, text=text),
                   st.integers(0, 500), st.none() | WORDS)  # fmt: skip
OUTPUT = st.lists(TEXTS | SPEECH | st.just(Status(message="s")), max_size=12).map(numbered)
POSITIONS = st.none() | st.integers(0, 4000)
REPORTS: st.SearchStrategy[Played] = st.builds(
    Played, seq=st.none() | st.integers(0, 16), audio_ms=POSITIONS, chars=st.none() | st.integers(0, 100)
)


def folded(events: list[Event]) -> TurnFold:
    fold = TurnFold(TURN, InputId("i"))
    for event in events:
        fold.apply(event)
    return fold


def hears(events: list[Event], taken: int, *reports: Played) -> Heard:
    hearing = HeardPosition()
    hearing.taken = Seq(taken)
    for report in reports:
        hearing.report(report)
    return hearing.heard(folded(events).main_lane)


def sent(events: list[Event], taken: int) -> tuple[str, int]:
    """Return the text and the milliseconds that a live socket took, event by event."""
    whole = [event for event in events if not isinstance(event, Status) and not event.source]
    texts = any(isinstance(event, TextDelta) and event.text for event in whole)
    text, ms = "", 0
    for event in whole:
        if event.seq <= taken:
            if isinstance(event, AudioDelta):
                ms = event.start_ms + event.duration_ms
                text += (event.text or "") if not texts else ""
            else:
                text += event.text
    return text, ms


@given(OUTPUT, st.integers(0, 14))
def test_without_reports_all_that_a_live_socket_took_is_heard(events: list[Event], taken: int) -> None:
    """Of the turn's own voice: its text, or the words of its speech when it wrote none."""
    heard = hears(events, taken)
    assert (heard.text, heard.audio_ms) == sent(events, taken)
    assert heard.seq == taken


def strewn(events: list[Event], starts: list[int]) -> list[Event]:
    """Place the speech anywhere, as an agent may."""
    return [
        structs.replace(event, start_ms=start) if isinstance(event, AudioDelta) else event
        for event, start in zip(events, starts, strict=False)
    ]


STREWN = st.builds(strewn, OUTPUT, st.lists(st.integers(0, 2000), min_size=12, max_size=12))


@given(OUTPUT | STREWN, st.integers(0, 14), st.lists(REPORTS, min_size=1, max_size=4))
def test_reports_are_cut_to_what_was_sent(events: list[Event], taken: int, reports: list[Played]) -> None:
    """Whatever a client says: a prefix of what it was sent, in text, in sound and in events."""
    heard = hears(events, taken, *reports)
    text, ms = sent(events, taken)
    assert text.startswith(heard.text)
    assert 0 <= heard.audio_ms <= ms
    assert 0 <= heard.seq <= taken


def _least(events: list[Event], taken: int, report: Played) -> tuple[int, int]:
    """Return the characters and milliseconds that a report speaks of at least."""
    text, ms = sent(events, taken)
    chars = min(report.chars or 0, len(text))
    at_seq = sent(events, min(report.seq or 0, taken))
    return max(chars, len(at_seq[0])), max(at_seq[1], min(report.audio_ms or 0, ms))


@given(OUTPUT, st.integers(0, 14), REPORTS)
def test_a_report_is_believed_within_what_was_sent(events: list[Event], taken: int, report: Played) -> None:
    """At least what each of its fields says, and the sound exactly."""
    if report == Played():
        return
    heard = hears(events, taken, report)
    chars, ms = _least(events, taken, report)
    assert len(heard.text) >= chars
    assert heard.audio_ms == ms
    if report.seq is None and report.audio_ms is None:
        assert len(heard.text) == chars


@given(OUTPUT, st.integers(0, 14), st.lists(REPORTS, min_size=2, max_size=6), st.randoms())
def test_positions_only_move_forward_in_any_order(
    events: list[Event], taken: int, reports: list[Played], random: object
) -> None:
    """Reports that overtake one another come to the same, and each can only add to the first."""
    before: Heard | None = None
    for n in range(1, len(reports) + 1):
        heard = hears(events, taken, *reports[:n])
        if before is not None and reports[0] != Played() and any(r != Played() for r in reports[: n - 1]):
            assert len(heard.text) >= len(before.text)
            assert heard.audio_ms >= before.audio_ms
            assert heard.seq >= before.seq
        before = heard
    assert hears(events, taken, *reversed(reports)) == before


@given(OUTPUT, st.integers(0, 13), REPORTS)
def test_what_is_taken_later_can_only_add(events: list[Event], taken: int, report: Played) -> None:
    """A report that came before its output is good when the output has been sent."""
    early, late = hears(events, taken, report), hears(events, taken + 1, report)
    assert late.text.startswith(early.text)
    assert late.audio_ms >= early.audio_ms


@pytest.mark.parametrize("kind", [Played, lambda **position: Playback(turn_id=TURN, **position)])
def test_both_ways_to_report_say_the_same(kind: Callable[..., Played | Playback]) -> None:
    """`played` in an interrupt, `playback` at any time."""
    hearing = HeardPosition()
    hearing.taken = Seq(9)
    hearing.report(kind(chars=3))
    assert hearing.heard(folded(numbered([TextDelta(text="abcdef")])).main_lane).text == "abc"


@pytest.mark.parametrize(
    ("played", "text", "seq"),
    [
        (Played(chars=0), "", 0),
        (Played(chars=2), "on", 0),
        (Played(chars=4), "one ", 1),
        (Played(chars=5), "one t", 1),
        (Played(seq=Seq(2)), "one two ", 2),
        (Played(seq=Seq(1), chars=8), "one two ", 2),
        (Played(chars=999), "one two three", 3),
    ],
)
def test_the_last_event_that_counts_lies_wholly_within_the_text(played: Played, text: str, seq: int) -> None:
    """`seq` is the last event that was heard to its end."""
    events = numbered([TextDelta(text="one "), TextDelta(text="two "), TextDelta(text="three")])
    heard = hears(events, 3, played)
    assert (heard.text, heard.seq) == (text, seq)


@pytest.mark.parametrize(
    ("audio_ms", "text", "seq"),
    [
        (0, "", 0),
        (500, "one ", 0),
        (749, "one ", 0),
        (999, "one two ", 0),
        (1000, "one two ", 1),
        (1001, "one two ", 1),
        (1500, "one two three ", 1),
        (2000, "one two three four", 2),
        (99_999, "one two three four", 2),
    ],
)
def test_speech_is_cut_at_a_word_of_the_span_that_was_playing(audio_ms: int, text: str, seq: int) -> None:
    """Of a span that was played to its end all words count; before its first word is over none does."""
    spans = [("one two ", 1000), ("three four", 1000)]
    events = numbered([AudioDelta(audio=b"", start_ms=0, duration_ms=ms, text=t) for t, ms in spans])
    heard = hears(events, 2, Played(audio_ms=audio_ms))
    assert (heard.text, heard.seq) == (text, seq)


def test_the_whole_text_is_the_words_of_the_speech_when_nothing_was_written() -> None:
    """Text wins where both are."""
    speech = AudioDelta(audio=b"", start_ms=0, duration_ms=10, text="spoken")
    assert whole_text(folded(numbered([speech])).main_lane) == "spoken"
    assert whole_text(folded(numbered([speech, TextDelta(text="written")])).main_lane) == "written"
