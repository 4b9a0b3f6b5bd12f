"""The history is always valid for the API of chat completions, whatever agents and clients do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from bargein_protocol import (
    AgentOutput,
    AudioDelta,
    CallId,
    Playback,
    Played,
    Seq,
    Status,
    TextDelta,
    Thought,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolResult,
    ToolRunning,
    TurnId,
)
from bargein_server.core.history import (
    INTERRUPTED,
    NO_TEXT,
    NamedCall,
    about_tokens,
    calls_message,
    result_message,
)
from bargein_server.core.lifecycle import Stage
from bargein_server.core.turn_record import Ending
from core_driver import Talk
from valid_history import check_valid

CALLS = st.sampled_from([CallId("a"), CallId("b"), CallId("c")])
ARGUMENTS = st.sampled_from(['{"x":1}', '{"x":', "1}", "[]", "", "nonsense", '"\\ud800"', "[" * 5000])
WORDS = st.text("ab \U0001f600", min_size=1, max_size=8)
OUTPUTS: st.SearchStrategy[str | AgentOutput] = st.one_of(
    WORDS,
    st.builds(TextDelta, text=WORDS, source=st.sampled_from(["", "other"])),
    st.builds(lambda ms, text: AudioDelta(audio=b"", start_ms=0, duration_ms=ms, text=text),
              st.integers(0, 100), st.none() | WORDS),
    st.just(Thought(text="hm")),
    st.just(Status(message="busy")),
    st.builds(ToolCall, call_id=CALLS, name=st.just("tool"), source=st.sampled_from(["", "other"])),
    st.builds(ToolCallDelta, call_id=CALLS, arguments=ARGUMENTS),
    st.builds(ToolConfirm, call_id=CALLS, arguments=st.just({"x": 1})),
    st.builds(ToolRunning, call_id=CALLS, arguments=st.just({"x": 1})),
    st.builds(ToolResult, call_id=CALLS, output=st.sampled_from([None, "text", {"deep": [1]}]),
              error=st.none() | st.just("no"),
              status=st.sampled_from(["completed", "failed", "cancelled", "running"])),
)  # fmt: skip
PLAYED = st.builds(
    Played, seq=st.none() | st.integers(0, 40).map(Seq), audio_ms=st.none() | st.integers(0, 300),
    chars=st.none() | st.integers(0, 40),
)  # fmt: skip
ACTIONS = st.one_of(
    st.tuples(st.just("yield"), OUTPUTS),
    st.tuples(st.just("yield"), OUTPUTS),
    st.tuples(st.just("report"), PLAYED),
    st.tuples(st.just("interrupt"), PLAYED),
    st.tuples(st.sampled_from(["finish", "ask", "queue", "line", "drop", "cleaned"]), st.none()),
)


class Conversation:
    """Does what Hypothesis says; `check` looks at the history."""

    def __init__(self) -> None:
        self.talk = Talk()
        self.turns = [self.talk.ask("one")]
        self._away = False

    @property
    def turn(self) -> TurnId:
        """The turn that has the floor, else the last one."""
        current = self.talk.session._turns.current
        return self.turns[-1] if current is None else current.id

    def act(self, what: str, argument: Any) -> None:
        if what == "yield":
            self.talk.emit(self.turn, argument)
        elif what == "finish":
            if self.talk.session.turn(self.turn).stage is Stage.RUNNING:
                self.talk.finish(self.turn)
        elif what == "cleaned":
            for turn in self.talk.cancelled():
                self.talk.cleaned_up(turn)
        elif what == "line":
            self.talk.open = not self.talk.open
            self.talk.flush()
        elif what == "drop":
            self.talk.detach()
            self._away = True
        else:
            if self._away:
                self.talk.attach(cursor=0)
                self._away = False
            self._act_as_client(what, argument)

    def _act_as_client(self, what: str, argument: Any) -> None:
        if what == "interrupt":
            self.talk.interrupt(self.turn, played=argument)
        elif what == "report":
            for turn in self.turns[-2:]:
                self.talk.send(
                    Playback(turn_id=turn, seq=argument.seq, audio_ms=argument.audio_ms, chars=argument.chars)
                )
        else:
            turn = self.talk.ask(what, on_busy="queue" if what == "queue" else "interrupt")
            self.turns += [turn] if turn else []

    def check(self) -> None:
        for turn in self.turns:
            own = self.talk.session.turn(turn).input.text
            for mark in (INTERRUPTED, None):
                check_valid(self.talk.session.history(turn).messages(mark=mark), own)


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_history_is_valid_at_every_moment(actions: list[tuple[str, Any]]) -> None:
    """Every call has one result right after its message, arguments are JSON, the user speaks last."""
    conversation = Conversation()
    for what, argument in actions:
        conversation.act(what, argument)
        conversation.check()


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.integers(0, 120))
def test_a_bounded_history_is_a_valid_end_of_the_whole(actions: list[tuple[str, Any]], room: int) -> None:
    """Within the bound, but for the user's own input, which always stays."""
    conversation = Conversation()
    for what, argument in actions:
        conversation.act(what, argument)
    history = conversation.talk.session.history(conversation.turn)
    some, whole = history.messages(room), history.messages()
    assert whole[len(whole) - len(some) :] == some
    check_valid(some, whole[-1]["content"])
    texts = [message.get("content") or "" for message in some]
    calls = [call["function"] for message in some for call in message.get("tool_calls", ())]
    cost = sum(4 + about_tokens(text) for text in texts)
    cost += sum(about_tokens(call["name"] + call["arguments"]) for call in calls)
    assert cost <= room or len(some) == 1


def messages_after(*outputs: str | AgentOutput) -> list[dict[str, Any]]:
    talk = Talk()
    turn = talk.ask("go")
    talk.emit(turn, *outputs)
    talk.interrupt(turn)
    return talk.heard_by_next(talk.ask("and?"))[1:-1]


def test_a_call_in_the_background_has_one_result_that_is_replaced() -> None:
    """It says `running` until it settles, also when that is after the turn."""
    call = CallId("a")
    running = ToolResult(call_id=call, status="running")
    assert [m["content"] for m in messages_after(ToolCall(call_id=call, name="n"), running)][1] == "running"
    done = ToolResult(call_id=call, status="completed", output="found")
    results = [m["content"] for m in messages_after(ToolCall(call_id=call, name="n"), running, done)]
    assert results[1] == "found"


def test_a_call_that_was_not_announced_has_a_name() -> None:
    """Models refuse an empty one."""
    [assistant, *_] = messages_after(ToolRunning(call_id=CallId("a"), arguments={}))
    assert assistant["tool_calls"][0]["function"] == {"name": "unknown", "arguments": "{}"}


def test_confirmed_arguments_win_over_the_written_ones() -> None:
    """They are what the tool ran with."""
    call = CallId("a")
    [assistant, *_] = messages_after(
        ToolCall(call_id=call, name="n"),
        ToolCallDelta(call_id=call, arguments='{"as":"written"}'),
        ToolConfirm(call_id=call, arguments={"as": "confirmed"}),
    )
    assert assistant["tool_calls"][0]["function"]["arguments"] == '{"as":"confirmed"}'


def test_another_voice_is_not_the_assistant() -> None:
    """What a sub-agent says and calls is its own."""
    call = CallId("a")
    said, called = TextDelta(text="psst", source="b"), ToolCall(call_id=call, name="n", source="b")
    assert messages_after("mine", said, called) == [{"role": "assistant", "content": f"mine {INTERRUPTED}"}]


def test_without_a_mark_an_unheard_answer_is_no_text() -> None:
    """So that roles alternate; a heard one stands as it was heard."""
    talk = Talk()
    unheard, heard = talk.ask("one"), TurnId("")
    talk.interrupt(unheard)
    heard = talk.ask("two")
    talk.emit(heard, "half ")
    talk.interrupt(heard)
    talk.cleaned_up(unheard)
    last = talk.ask("three")
    told = talk.session.history(last).messages(mark=None)
    assert [(m["role"], m["content"]) for m in told] == [
        ("user", "one"), ("assistant", NO_TEXT), ("user", "two"), ("assistant", "half "), ("user", "three"),
    ]  # fmt: skip


def test_a_failed_turn_is_marked_though_all_of_it_was_heard() -> None:
    """The model must not take half an answer for the whole."""
    talk = Talk()
    turn = talk.ask("one")
    talk.emit(turn, "half")
    talk.finish(turn, Ending("failed", "agent_error"))
    assert talk.heard_by_next(talk.ask("two"))[1]["content"] == f"half {INTERRUPTED}"


def test_tokens_are_guessed_with_caution() -> None:
    """One for three bytes of UTF-8, so that languages with long characters count as more."""
    assert [about_tokens(text) for text in ("", "abc", "a" * 30, "語" * 10, "\ud800")] == [1, 2, 11, 11, 1]


def test_a_request_can_always_be_encoded() -> None:
    """Text of models and tools that a request repeats: halves of characters, subclasses of `str`, objects."""
    call = NamedCall("c", "na\ud83dme", '{"text": "half \ud83d"}')
    messages = [
        calls_message("half \ud83d", [call]),
        result_message("c", "completed", "half \ude00", None),
        result_message("c", "completed", {"deep": ["\ude00", {1, 2}, object]}, None),
        result_message("c", "failed", None, "half \ude00"),
    ]
    for message in messages:
        assert b"half ?" in json.encode(message) or b"deep" in json.encode(message)
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == '{"text": "half ?"}'
