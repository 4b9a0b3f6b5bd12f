"""Contract 5 in the core: the next turn does not wait, and few cleanups overlap a turn."""

from __future__ import annotations

from core_driver import Talk


def test_the_next_turn_starts_beside_one_cleanup() -> None:
    """It does not wait for the cleanup of the turn that it interrupted."""
    talk = Talk()
    first = talk.ask()
    second = talk.ask()
    assert talk.started() == [first, second]


def test_a_turn_waits_when_too_many_cleanups_overlap_it() -> None:
    """It is accepted immediately, and started when one of the cleanups is over."""
    talk = Talk()
    turns = [talk.ask() for _ in range(talk.settings.max_overlapping_cleanups + 2)]
    assert talk.types()[-1] == "input.accepted"
    assert talk.started() == turns[:-1]
    talk.cleaned_up(turns[0])
    assert talk.started() == turns


def test_how_many_cleanups_overlap_is_a_setting() -> None:
    """With one, a user who cuts in twice within a cleanup waits for it."""
    talk = Talk(max_overlapping_cleanups=1)
    first, second, third = talk.ask(), talk.ask(), talk.ask()
    assert talk.started() == [first, second]
    talk.cleaned_up(first)
    assert talk.started() == [first, second, third]


def test_an_agent_whose_turns_share_state_gets_order() -> None:
    """With `cleanup="wait"` the next turn starts when the cleanup is over."""
    talk = Talk(cleanup="wait")
    first, second = talk.ask(), talk.ask()
    assert talk.started() == [first]
    talk.cleaned_up(first)
    assert talk.started() == [first, second]


def test_a_turn_that_waits_for_a_cleanup_can_be_interrupted() -> None:
    """It ends without a start, and nothing starts when the cleanup is over."""
    talk = Talk(cleanup="wait")
    first, second = talk.ask(), talk.ask()
    assert talk.interrupt(second).outcome == "interrupted"
    talk.cleaned_up(first)
    assert talk.started() == [first]


def test_a_turn_that_completed_leaves_no_cleanup_behind() -> None:
    """Its generator has returned, so the next turns start at once."""
    talk = Talk(cleanup="wait")
    for _ in range(3):
        turn = talk.ask()
        talk.finish(turn)
    assert len(talk.started()) == 3
