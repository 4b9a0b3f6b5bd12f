"""The life of a turn: both tables row by row, and the scheduler that carries out their effects."""

from __future__ import annotations

from itertools import count, product

import pytest
from msgspec.structs import asdict

from bargein_protocol import (
    JSON,
    Epoch,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    TextDelta,
    TurnEnded,
    TurnHeld,
    TurnHold,
    TurnId,
    TurnResume,
    TurnResumed,
)
from bargein_server.core import CancelTurn
from bargein_server.core.lifecycle import FLOWS, GUARDED, HELD, STAGES, Effect, Event, Flow, Misuse, Stage
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.sequencer import Sequencer
from bargein_server.core.turn_limiter import Permit, TurnLimiter
from bargein_server.core.turn_record import INTERRUPTED, SUPERSEDED, TurnRecord
from bargein_server.core.turn_scheduler import TurnScheduler
from bargein_server.settings import Settings
from core_driver import Talk

# Written down a second time, as the contract has it: a row that changes must be changed in both places.
STAGE_ROWS = """
    queued     start    running
    queued     end      ended
    running    finish   finishing
    running    end      ended       cancel the task
    finishing  end      ended
"""
FLOW_ROWS = """
    open            hold     held            number turn.held
    open            resume   open
    open            protect  protected
    open            end      shut            purge all output
    held            hold     held
    held            resume   open            number turn.resumed
    held            protect  held_protected
    held            end      shut            purge all output
    protected       hold     hold_pending
    protected       resume   protected
    protected       protect  protected
    protected       cut      cut_pending     purge unprotected output
    protected       release  open
    protected       end      shut            purge all output
    held_protected  hold     held_protected
    held_protected  resume   protected       number turn.resumed
    held_protected  protect  held_protected
    held_protected  cut      cut_pending     purge unprotected output, number turn.resumed
    held_protected  release  held
    held_protected  end      shut            purge all output
    hold_pending    hold     hold_pending
    hold_pending    resume   protected
    hold_pending    protect  hold_pending
    hold_pending    cut      cut_pending     purge unprotected output
    hold_pending    release  held            number turn.held
    hold_pending    end      shut            purge all output
    cut_pending     hold     cut_pending
    cut_pending     resume   cut_pending
    cut_pending     protect  cut_pending
    cut_pending     cut      cut_pending     purge unprotected output
    cut_pending     release  cut_pending     end the turn
    cut_pending     end      shut            purge all output
"""

Row = tuple[str, tuple[Effect, ...]]


def documented(rows: str) -> dict[tuple[str, str], Row]:
    table: dict[tuple[str, str], Row] = {}
    for row in rows.strip().splitlines():
        state, event, after, *effects = row.split(maxsplit=3)
        named = effects[0].split(", ") if effects else []
        table[state, event] = (after, tuple(map(Effect, named)))
    return table


STAGE_TABLE, FLOW_TABLE = documented(STAGE_ROWS), documented(FLOW_ROWS)
EVERY_CASE = list(product(Stage, Flow, Event))


def new_turn(stage: Stage = Stage.QUEUED, flow: Flow = Flow.OPEN) -> TurnRecord:
    turn = TurnRecord(TurnId("t"), InputText(id=InputId("i"), text="hello"), False)
    turn.stage, turn.flow = stage, flow
    return turn


# --- the tables ----------------------------------------------------------------------------------


def test_the_tables_are_the_documented_ones() -> None:
    """Neither more rows nor fewer, with these effects in this order."""
    stages = {(s.value, e.value): (after.value, effects) for (s, e), (after, effects) in STAGES.items()}
    flows = {(f.value, e.value): (after.value, effects) for (f, e), (after, effects) in FLOWS.items()}
    assert stages == STAGE_TABLE
    assert flows == FLOW_TABLE


@pytest.mark.parametrize(("stage", "flow", "event"), EVERY_CASE)
def test_a_turn_moves_by_the_rows_and_by_nothing_else(stage: Stage, flow: Flow, event: Event) -> None:
    """An event moves each machine that has a row; one that moves none raises and changes nothing."""
    turn = new_turn(stage, flow)
    before = asdict(turn)
    stage_row = STAGE_TABLE.get((stage.value, event.value))
    flow_row = FLOW_TABLE.get((flow.value, event.value))
    if stage_row is None and flow_row is None:
        expected = f"can't {event.value} turn t when it is {stage.value}, {flow.value}"
        with pytest.raises(Misuse, match=f"^{expected}$"):
            turn.advance(event)
        assert asdict(turn) == before
        return
    effects = turn.advance(event)
    next_stage, stage_effects = stage_row or (stage.value, ())
    next_flow, flow_effects = flow_row or (flow.value, ())
    assert (turn.stage.value, turn.flow.value) == (next_stage, next_flow)
    assert effects == flow_effects + stage_effects
    assert {**asdict(turn), "stage": stage, "flow": flow} == before


def test_a_turn_ends_from_every_state_but_its_end_and_never_comes_back() -> None:
    """One end (contract 1); no state is before `queued`, and nothing reopens the fence."""
    assert {stage for stage, event in STAGES if event is Event.END} == set(Stage) - {Stage.ENDED}
    assert {flow for flow, event in FLOWS if event is Event.END} == set(Flow) - {Flow.SHUT}
    assert not any(stage is Stage.ENDED for stage, _ in STAGES)
    assert not any(flow is Flow.SHUT for flow, _ in FLOWS)
    assert Stage.QUEUED not in {after for after, _ in STAGES.values()}
    assert all(after is Stage.ENDED for (_, event), (after, _) in STAGES.items() if event is Event.END)
    assert all(after is Flow.SHUT for (_, event), (after, _) in FLOWS.items() if event is Event.END)


def test_an_interrupt_is_deferred_in_the_guarded_flows_and_no_others() -> None:
    """A cut, or a release, outside of a section is misuse; a hold or a protection is none anywhere."""
    for event, flows in {
        Event.CUT: GUARDED,
        Event.RELEASE: GUARDED,
        Event.HOLD: set(Flow) - {Flow.SHUT},
        Event.RESUME: set(Flow) - {Flow.SHUT},
        Event.PROTECT: set(Flow) - {Flow.SHUT},
    }.items():
        assert {flow for flow, listed in FLOWS if listed is event} == flows
    assert set(GUARDED) & set(HELD) == {Flow.HELD_PROTECTED}


def test_a_cut_leads_out_of_every_hold_and_stays() -> None:
    """A section that is held could never be over; nothing but the end follows a cut."""
    for flow in GUARDED:
        assert FLOWS[flow, Event.CUT][0] is Flow.CUT_PENDING
    after = {row[0] for (flow, _), row in FLOWS.items() if flow is Flow.CUT_PENDING}
    assert after == {Flow.CUT_PENDING, Flow.SHUT}


@pytest.mark.parametrize("rows", [STAGES, FLOWS], ids=["stages", "flows"])
def test_effects_of_a_row_are_in_the_order_of_their_definition(
    rows: dict[tuple[Flow, Event], tuple[Flow, tuple[Effect, ...]]],
) -> None:
    """The scheduler carries them out from left to right."""
    order = list(Effect)
    for _, effects in rows.values():
        assert sorted(effects, key=order.index) == list(effects)


# --- the scheduler -------------------------------------------------------------------------------


class Floor:
    """A scheduler with one turn, of which the flow is set by hand."""

    def __init__(self, flow: Flow, stage: Stage = Stage.RUNNING) -> None:
        ids = count(1)
        self.sequencer = Sequencer(Epoch("e"), MemoryLog(1000, 100_000), JSON)
        self.turns = TurnScheduler(
            self.sequencer, Settings(hold_s=7), Permit(TurnLimiter(1000, 0), lambda: None),
            lambda: TurnId(f"t{next(ids)}"),
        )  # fmt: skip
        self.turns.now = 50.0
        answer = self.turns.schedule(InputText(id=InputId("i"), text="x"))
        self.turn = self.turns.turns[answer.turn_id]  # type: ignore[union-attr]
        self.turn.put_text("plain")
        self.turn.sections = 1
        self.turn.put_text("protected")
        self.turn.sections = 0
        self.turn.stage, self.turn.flow = stage, flow
        if flow in HELD:
            self.turn.held_until = 1.0
        if flow is Flow.CUT_PENDING:
            self.turn.deferred = SUPERSEDED
        self.top = self.sequencer.top
        self.turns.commands.clear()

    def act(self, event: Event) -> None:
        """Let an event happen, by the method that stands for it."""
        turns, turn = self.turns, self.turn
        if event is Event.HOLD:
            turns.hold(turn)
        elif event is Event.RESUME:
            turns.resume(turn)
        elif event is Event.CUT:
            turns.defer(turn, INTERRUPTED)
        elif event is Event.RELEASE:
            while turn.take() is not None:  # the section's output has been written
                pass
            turns.release(turn)
        elif event is Event.END:
            turns.end(turn, SUPERSEDED)
        else:
            turn.advance(event)

    def numbered(self) -> list[type]:
        return [
            type(JSON.decode_server(self.sequencer.logged(seq, JSON)))  # type: ignore[arg-type]
            for seq in range(self.top + 1, self.sequencer.top + 1)
        ]

    def waiting(self) -> list[object]:
        waiting: list[object] = []
        while (output := self.turn.take()) is not None:
            waiting.append(output)
        return waiting


NUMBERED: dict[Effect, list[type]] = {
    Effect.REPORT_HELD: [TurnHeld],
    Effect.REPORT_RESUMED: [TurnResumed],
    Effect.END_TURN: [TurnEnded],
}
FLOW_CASES = [pytest.param(*case, id=f"{case[0].value}-{case[1].value}") for case in FLOWS]


@pytest.mark.parametrize(("flow", "event"), FLOW_CASES)
def test_the_scheduler_carries_out_every_effect_of_a_row(flow: Flow, event: Event) -> None:
    """What is numbered, what goes on waiting, and when a hold ends by itself."""
    after, effects = FLOWS[flow, event]
    floor = Floor(flow)
    held_until = floor.turn.held_until
    floor.act(event)
    ends = event is Event.END or Effect.END_TURN in effects
    numbered = [kind for effect in effects for kind in NUMBERED.get(effect, [])]
    assert floor.numbered() == (numbered or [TurnEnded] if ends else numbered)
    assert floor.turn.flow is (Flow.SHUT if ends else after)
    assert floor.turn.ended is ends
    if Effect.REPORT_HELD in effects:
        assert floor.turn.held_until == 57.0
    elif Effect.REPORT_RESUMED in effects:
        assert (floor.turn.held_until, floor.turn.progress_at) == (None, 50.0)
    else:
        assert floor.turn.held_until == (None if ends else held_until)
    assert [type(command) for command in floor.turns.commands] == ([CancelTurn] if ends else [])
    if ends:
        assert (floor.turns.current, floor.turns.last) == (None, floor.turn)
    if event is not Event.RELEASE:
        purged = ["protected"] if Effect.PURGE_UNPROTECTED in effects else ["plain", "protected"]
        assert floor.waiting() == ([] if Effect.PURGE in effects else purged)


@pytest.mark.parametrize("stage", [stage for stage, event in STAGES if event is Event.END])
def test_only_a_task_that_runs_is_cancelled(stage: Stage) -> None:
    """A turn that waits has none yet; one whose generator has returned needs no cancel."""
    floor = Floor(Flow.OPEN, stage)
    floor.act(Event.END)
    assert floor.turn.stage is Stage.ENDED
    cancels = [CancelTurn(floor.turn.id, "superseded")] if stage is Stage.RUNNING else []
    assert floor.turns.commands == cancels
    assert floor.turns.cleans(floor.turn.id) is (stage is Stage.RUNNING)


@pytest.mark.parametrize(
    ("flow", "event"),
    [(flow, event) for flow, event in product(Flow, Event) if event is Event.RELEASE and flow not in GUARDED],
)
def test_to_release_what_nothing_guards_is_harmless(flow: Flow, event: Event) -> None:
    """The output pump asks after each frame; the scheduler looks first."""
    floor = Floor(flow)
    floor.act(event)
    assert (floor.turn.flow, floor.numbered()) == (flow, [])


@pytest.mark.parametrize(("sections", "protected"), [(1, False), (0, True), (1, True)])
@pytest.mark.parametrize("flow", [flow for flow in Flow if flow in GUARDED])
def test_a_section_is_over_when_it_is_left_and_its_output_written(
    flow: Flow, sections: int, protected: bool
) -> None:
    """Not before (contract 9)."""
    floor = Floor(flow)
    floor.turn.sections = sections
    if not protected:
        floor.waiting()
    floor.turns.release(floor.turn)
    assert (floor.turn.flow, floor.numbered()) == (flow, [])


# --- whole sessions ------------------------------------------------------------------------------


def test_an_interrupt_of_a_section_that_began_during_a_hold_ends_the_hold() -> None:
    """The section's output is written, and the turn ends after it."""
    talk = Talk()
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.emit(turn, "before ")
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    assert talk.session.turn(turn).flow is Flow.HELD_PROTECTED
    mark = talk.mark()
    assert talk.interrupt(turn).outcome == "deferred"
    assert talk.session.turn(turn).flow is Flow.CUT_PENDING
    talk.leave_section(turn)
    shown = talk.events[mark:]
    assert [event.text for event in shown if isinstance(event, TextDelta)] == ["inside"]
    kinds = [type(event) for event in shown]
    assert kinds.index(TurnResumed) < kinds.index(TextDelta) < kinds.index(TurnEnded)
    assert talk.end_of(turn).reason == "client"


def test_a_hold_that_a_section_defers_is_forgotten_by_a_resume_and_by_a_cut() -> None:
    """A client that changes its mind sees no `turn.held`."""
    for undo in (TurnResume, None):
        talk = Talk()
        turn = talk.ask()
        talk.enter_section(turn)
        talk.send(TurnHold(turn_id=turn))
        assert talk.session.turn(turn).flow is Flow.HOLD_PENDING
        if undo is None:
            talk.send(Interrupt(id=InterruptId("x"), turn_id=turn))
        else:
            talk.send(undo(turn_id=turn))
        talk.leave_section(turn)
        assert [*talk.of(TurnHeld), *talk.of(TurnResumed)] == []
        assert talk.session.turn(turn).ended is (undo is None)


@pytest.mark.parametrize("cut", [False, True])
def test_a_turn_that_finishes_in_a_section_has_left_it(cut: bool) -> None:
    """Its end waits for the protected output, and for nothing else."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    if cut:
        assert talk.interrupt(turn).outcome == "deferred"
    talk.finish(turn)
    assert not talk.session.turn(turn).ended
    talk.open = True
    talk.flush()
    assert talk.end_of(turn).status == ("interrupted" if cut else "completed")
    assert talk.end_of(turn).heard.text == "inside"


@pytest.mark.parametrize("held", [False, True])
def test_a_nested_section_is_over_with_its_outer_one(held: bool) -> None:
    """An interrupt waits for the last of them."""
    talk = Talk()
    turn = talk.ask()
    if held:
        talk.send(TurnHold(turn_id=turn))
    for _ in range(2):
        talk.enter_section(turn)
    assert talk.interrupt(turn).outcome == "deferred"
    talk.leave_section(turn)
    assert not talk.of(TurnEnded)
    talk.leave_section(turn)
    assert talk.end_of(turn).reason == "client"
