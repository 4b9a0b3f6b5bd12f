"""Contracts 7 and 8: the model is told what the user heard, and what it is told is always valid."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_protocol import (
    AudioDelta,
    CallId,
    Playback,
    Played,
    Status,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    ToolRunning,
)
from bargein_server.core.history import INTERRUPTED, NO_RESULT, NO_TEXT, UNKNOWN_EFFECT
from bargein_server.core.turn_record import Ending
from chat_templates import render
from core_driver import Talk


def said(talk: Talk, turn: Any) -> list[tuple[str, Any]]:
    return [(message["role"], message.get("content")) for message in talk.heard_by_next(turn)]


def speech(n: int, text: str | None = None) -> AudioDelta:
    return AudioDelta(audio=b"\0\0", start_ms=1000 * n, duration_ms=1000, text=text)


def test_a_completed_turn_is_told_whole() -> None:
    """Unmarked, with the user's new input last."""
    talk = Talk()
    first = talk.ask("hello")
    talk.emit(first, "Hi ", "there.")
    talk.finish(first)
    second = talk.ask("and now?")
    assert said(talk, second) == [("user", "hello"), ("assistant", "Hi there."), ("user", "and now?")]


def test_an_interrupted_turn_is_told_as_far_as_a_live_socket_took_it() -> None:
    """What waited was not heard; the message is marked."""
    talk = Talk()
    first = talk.ask("tell me")
    talk.emit(first, "One ", "two ")
    talk.open = False
    talk.emit(first, "three ")
    talk.interrupt(first)
    talk.open = True
    second = talk.ask("stop")
    assert said(talk, second)[1] == ("assistant", f"One two {INTERRUPTED}")


def test_the_clients_report_cuts_further() -> None:
    """The interrupt says what was rendered; the rest was only on the line."""
    talk = Talk()
    first = talk.ask("tell me")
    talk.emit(first, "One two three four")
    talk.interrupt(first, played=Played(chars=7))
    assert said(talk, talk.ask("stop"))[1] == ("assistant", f"One two {INTERRUPTED}")


def test_a_turn_of_which_nothing_was_heard_is_only_a_mark() -> None:
    """So that roles alternate, as many models demand."""
    talk = Talk()
    first = talk.ask("tell me")
    talk.interrupt(first)
    assert said(talk, talk.ask("stop")) == [("user", "tell me"), ("assistant", INTERRUPTED), ("user", "stop")]


def test_a_turn_that_never_started_is_not_part_of_the_conversation() -> None:
    """Its input was withdrawn before anybody read it."""
    talk = Talk()
    first = talk.ask("one")
    queued = talk.ask("two", on_busy="queue")
    talk.interrupt(queued)
    talk.finish(first)
    assert ("user", "two") not in said(talk, talk.ask("three"))


def test_history_is_in_the_order_of_the_starts() -> None:
    """An input that barged in came before the one that waited."""
    talk = Talk()
    first = talk.ask("one")
    waiting = talk.ask("two", on_busy="queue")
    barging = talk.ask("three")
    talk.cleaned_up(first)
    talk.finish(barging)
    assert [content for role, content in said(talk, waiting) if role == "user"] == ["one", "three", "two"]


def test_reports_after_the_end_still_cut() -> None:
    """Audio is made faster than it is played: the turn completed long before it was heard."""
    talk = Talk()
    first = talk.ask("speak")
    talk.emit(first, speech(0, "One second. "), speech(1, "Two seconds. "), speech(2, "Three seconds. "))
    talk.finish(first)
    assert talk.end_of(first).heard.audio_ms == 3000
    talk.send(Playback(turn_id=first, audio_ms=2000))
    second = talk.ask("stop")
    assert said(talk, second)[1] == ("assistant", f"One second. Two seconds. {INTERRUPTED}")
    talk.send(Playback(turn_id=first, audio_ms=3000))
    assert said(talk, second)[1] == ("assistant", "One second. Two seconds. Three seconds. ")


def test_a_late_interrupt_with_a_position_cuts_the_ended_turn() -> None:
    """`already_ended`, and its history is cut to what was played."""
    talk = Talk()
    first = talk.ask("speak")
    talk.emit(first, speech(0, "One. "), speech(1, "Two. "))
    talk.finish(first)
    result = talk.interrupt(first, played=Played(audio_ms=1000))
    assert result.outcome == "already_ended"
    assert result.heard is not None
    assert result.heard.text == "One. "
    assert said(talk, talk.ask("stop"))[1] == ("assistant", f"One. {INTERRUPTED}")


def test_positions_only_move_forward() -> None:
    """An older report that arrives late takes nothing back."""
    talk = Talk()
    first = talk.ask()
    talk.emit(first, "One two three")
    talk.send(Playback(turn_id=first, chars=7))
    talk.send(Playback(turn_id=first, chars=3))
    talk.interrupt(first)
    assert talk.end_of(first).heard.text == "One two"


def test_a_report_beyond_what_was_sent_is_cut_to_it() -> None:
    """A client cannot have heard what it did not get."""
    talk = Talk()
    first = talk.ask()
    talk.emit(first, "One ", speech(0))
    talk.interrupt(first, played=Played(seq=999, chars=999, audio_ms=99_999))  # type: ignore[arg-type]
    heard = talk.end_of(first).heard
    assert (heard.text, heard.audio_ms, heard.seq) == ("One ", 1000, 4)


def test_output_that_reached_only_the_log_is_unheard_until_it_is_replayed() -> None:
    """The client was away; then it came back."""
    talk = Talk()
    first = talk.ask()
    talk.emit(first, "heard ")
    talk.detach()
    talk.emit(first, "unheard")
    talk.finish(first)
    assert talk.session.turn(first).fold.ended is not None
    assert talk.session.turn(first).fold.ended.heard.text == "heard "  # type: ignore[union-attr]
    talk.attach(cursor=3)
    assert said(talk, talk.ask("next"))[1] == ("assistant", "heard unheard")


def test_text_beside_speech_is_heard_as_far_as_its_sound_was_played() -> None:
    """Text that was sent before the sound that was playing counts as heard."""
    talk = Talk()
    first = talk.ask()
    talk.emit(first, "First. ", speech(0), "Second. ", speech(1), "Third.", speech(2))
    talk.interrupt(first, played=Played(audio_ms=1500))
    assert talk.end_of(first).heard.text == "First. Second. "


def test_a_span_that_was_playing_is_cut_at_a_word() -> None:
    """Half of its time is about half of its words."""
    talk = Talk()
    first = talk.ask()
    talk.emit(first, speech(0, "one two three four"))
    talk.interrupt(first, played=Played(audio_ms=500))
    assert talk.end_of(first).heard.text == "one two "


def call(turn: str, name: str, arguments: str) -> list[Any]:
    call_id = CallId(f"{turn}-{name}")
    return [ToolCall(call_id=call_id, name=name), ToolCallDelta(call_id=call_id, arguments=arguments)]


def test_every_tool_call_has_exactly_one_result() -> None:
    """Finished ones keep theirs; one that was cut gets `cancelled`; half of the arguments become none."""
    talk = Talk()
    first = talk.ask("go")
    a, b = CallId("t1-a"), CallId("t1-b")
    talk.emit(first, "Looking. ", *call("t1", "a", '{"x":1}'), *call("t1", "b", '{"y":'))
    talk.emit(first, ToolRunning(call_id=a, arguments={"x": 1}))
    talk.emit(first, ToolResult(call_id=a, output={"found": 3}, status="completed"))
    talk.interrupt(first)
    messages = talk.heard_by_next(talk.ask("and?"))
    assert messages[1]["content"] == "Looking. "
    assert [c["id"] for c in messages[1]["tool_calls"]] == [a, b]
    assert [c["function"]["arguments"] for c in messages[1]["tool_calls"]] == ['{"x":1}', "{}"]
    assert [(m.get("tool_call_id"), m["content"]) for m in messages[2:4]] == [
        (a, '{"found":3}'),
        (b, "cancelled"),
    ]
    assert messages[4] == {"role": "assistant", "content": INTERRUPTED}


def test_steps_are_told_one_by_one() -> None:
    """Text, call, result, text, call, result, text: in this order."""
    talk = Talk()
    first = talk.ask("go")
    for name in ("a", "b"):
        call_id = CallId(f"t1-{name}")
        talk.emit(first, f"Now {name}. ", *call("t1", name, "{}"), ToolRunning(call_id=call_id, arguments={}))
        talk.emit(first, ToolResult(call_id=call_id, error="no", status="failed"))
    talk.emit(first, "Done.")
    talk.finish(first)
    messages = talk.heard_by_next(talk.ask("next"))
    assert [(m["role"], m.get("content")) for m in messages] == [
        ("user", "go"),
        ("assistant", "Now a. "), ("tool", "error: no"),
        ("assistant", "Now b. "), ("tool", "error: no"),
        ("assistant", "Done."),
        ("user", "next"),
    ]  # fmt: skip


def test_whole_exchanges_are_dropped_from_the_front() -> None:
    """`max_tokens` keeps the newest exchanges and always the user's own input."""
    talk = Talk()
    for n in range(5):
        turn = talk.ask(f"question {n}")
        talk.emit(turn, f"answer {n}")
        talk.finish(turn)
    last = talk.ask("last")
    history = talk.session.history(last)
    per_exchange = 2 * (4 + 1)
    some = history.messages(max_tokens=5 + 2 * per_exchange, count_tokens=lambda text: 1)
    assert [m["content"] for m in some] == ["question 3", "answer 3", "question 4", "answer 4", "last"]
    assert history.messages(max_tokens=0) == [{"role": "user", "content": "last"}]


def test_an_old_turn_does_not_see_the_turns_after_it() -> None:
    """An abandoned agent that asks late is told what it was told before."""
    talk = Talk()
    first = talk.ask("one")
    talk.ask("two")
    assert said(talk, first) == [("user", "one")]


def test_memory_is_bounded_in_turns_and_in_text() -> None:
    """Old turns are forgotten, and an interrupt for them is unknown."""
    talk = Talk(max_history_turns=3)
    turns = []
    for n in range(5):
        turns.append(talk.ask(str(n)))
        talk.emit(turns[-1], Status(message="x"), "y")
        talk.finish(turns[-1])
    assert len(talk.session.history(turns[-1]).messages()) == 5
    assert talk.interrupt(turns[0]).outcome == "unknown_turn"
    talk = Talk(max_history_chars=1000)
    for n in range(5):
        turn = talk.ask(str(n))
        talk.emit(turn, "z" * 400)
        talk.finish(turn)
    assert len(talk.heard_by_next(turn)) <= 2 * 2 + 1


def test_memory_is_bounded_while_an_input_waits_for_ever() -> None:
    """A turn that waits is older than those that pass it by; they are forgotten all the same."""
    talk = Talk(max_history_turns=3)
    talk.ask()
    waiting = talk.ask(on_busy="queue")
    turns = []
    for n in range(20):
        turns.append(talk.ask(str(n)))
        for turn in talk.cancelled():
            talk.cleaned_up(turn)
    assert talk.interrupt(turns[-5]).outcome == "unknown_turn"
    assert talk.interrupt(waiting).outcome == "interrupted"


def test_a_turn_that_cleans_up_is_remembered_until_it_is_done() -> None:
    """Its agent still reads its history; with a memory of one turn, too."""
    talk = Talk(max_history_turns=1)
    first = talk.ask("one")
    talk.ask("two")
    talk.interrupt()
    assert said(talk, first) == [("user", "one")]
    talk.cleaned_up(first)
    third = talk.ask("three")
    talk.interrupt(third)
    talk.cleaned_up(third)
    assert talk.interrupt(first).outcome == "unknown_turn"


def test_an_input_id_that_was_used_again_after_long_names_the_newer_turn() -> None:
    """Ids are remembered for 1024 requests; forgetting the older turn takes nothing from the newer."""
    talk = Talk(max_history_turns=2)
    talk.ask()
    older = talk.ask(id="same", on_busy="queue")
    for _ in range(1024):
        talk.interrupt("t99")  # type: ignore[arg-type]
    newer = talk.ask(id="same", on_busy="queue")
    assert newer != older
    talk.interrupt(older)
    for _ in range(3):
        talk.interrupt(talk.ask(on_busy="queue"))
    assert talk.interrupt(asked_by="same").turn_id == newer


def hold_silent_turns(talk: Talk, kind: str) -> None:
    """Hold a turn of each kind that ends without text, or with little of it."""
    turn = talk.ask(kind)
    if kind == "completed, blank":
        talk.emit(turn, " \n")
    elif kind == "completed, only sound":
        talk.emit(turn, speech(0))
    elif kind == "completed, only a status":
        talk.emit(turn, Status(message="busy"))
    elif kind == "client gone":
        talk.detach()
        talk.wait(1000)
        talk.attach(cursor=0)
        return
    if kind.startswith("failed"):
        talk.finish(turn, Ending("failed", "upstream"))
    elif kind.startswith("completed"):
        talk.finish(turn)
    else:
        talk.interrupt(turn)
        talk.cleaned_up(turn)


SILENT = [
    "completed", "completed, blank", "completed, only sound", "completed, only a status", "failed",
    "interrupted", "client gone",
]  # fmt: skip


@pytest.mark.parametrize("template", ["gemma", "mistral", "llama"])
@pytest.mark.parametrize("mark", [INTERRUPTED, None])
def test_strict_templates_take_every_history(template: str, mark: str | None) -> None:
    """User and assistant alternate, whatever the turns before said or did not say."""
    talk = Talk()
    for kind in [*SILENT, *reversed(SILENT)]:
        hold_silent_turns(talk, kind)
    messages = talk.session.history(talk.ask("last")).messages(mark=mark)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2 * len(SILENT) + ["user"]
    assert {message["content"] for message in messages[1::2]} <= {NO_TEXT, INTERRUPTED}
    assert render(template, messages)


@pytest.mark.parametrize("template", ["mistral", "llama"])
@pytest.mark.parametrize("end", ["completed", "failed", "interrupted"])
def test_a_turn_that_ends_with_a_tool_has_a_last_word(template: str, end: str) -> None:
    """Calls and results do not count for the alternation."""
    talk = Talk()
    for _ in range(2):
        turn = talk.ask()
        talk.emit(turn, *call(turn, "a", "{}"), ToolRunning(call_id=CallId(f"{turn}-a"), arguments={}))
        talk.emit(turn, ToolResult(call_id=CallId(f"{turn}-a"), output=1, status="completed"))
        if end == "interrupted":
            talk.interrupt(turn)
            talk.cleaned_up(turn)
        else:
            talk.finish(turn, Ending(end, end))  # type: ignore[arg-type]
    messages = talk.heard_by_next(talk.ask("last"))
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"] * 2 + [
        "user"
    ]
    assert render(template, messages)


def results_in(talk: Talk) -> list[str]:
    return [
        message["content"] for message in talk.heard_by_next(talk.ask("next")) if message["role"] == "tool"
    ]


@pytest.mark.parametrize("running", [False, True])
def test_a_call_without_a_result_in_a_completed_turn_was_not_cancelled(running: bool) -> None:
    """Agents that stream no results: "cancelled" beside an answer that says "Booked." would be a lie."""
    talk = Talk()
    turn = talk.ask("book")
    talk.emit(turn, *call(turn, "book", '{"n":1}'))
    if running:
        talk.emit(turn, ToolRunning(call_id=CallId(f"{turn}-book"), arguments={"n": 1}))
    talk.emit(turn, "Booked.")
    talk.finish(turn)
    assert results_in(talk) == [NO_RESULT]


def test_a_tool_without_the_ledger_may_have_had_its_effect() -> None:
    """It was running when its turn was cut; nobody can know what came of it."""
    talk = Talk()
    turn = talk.ask("book")
    talk.emit(turn, *call(turn, "book", "{}"), ToolRunning(call_id=CallId(f"{turn}-book"), arguments={}))
    talk.emit(turn, *call(turn, "other", "{}"))
    talk.interrupt(turn)
    assert results_in(talk) == [UNKNOWN_EFFECT, "cancelled"]
