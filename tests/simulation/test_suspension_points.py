"""An interrupt at every point at which a turn is suspended, for every shipped and every hostile agent.

A clean run counts the points; then one run for each of them as the wait begins, and one in the step in
which it ends. Whatever the agent is, and wherever it stands: one end, the right one, nothing after it, a
history that a model accepts, nothing left, and the same again from the same seed.
"""

from __future__ import annotations

import ssl

import pytest

from simulation.cuts import CutRun, Mode, Report
from simulation.stages import STAGES, Scene

MODES: tuple[Mode, ...] = ("early", "late")

LIMIT = 40
"""Of agents that go on for ever so many points are tried."""

TWICE = 7
"""One in so many runs is run again."""


@pytest.fixture(autouse=True)
def certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the machine's certificates once: it takes longer than a run, and nobody needs them."""
    context = ssl.create_default_context()
    monkeypatch.setattr(ssl, "create_default_context", lambda *args, **options: context)


def play(scene: Scene, cut_at: int | None, mode: Mode = "early") -> Report:
    """Run a scene once."""
    limit = LIMIT if scene.endless else None
    return CutRun(scene.stage, scene.text, cut_at, mode, limit).run()


def expect_the_right_end(scene: Scene, report: Report) -> None:
    """The one end is that of the interrupt, unless the turn was over before it was read."""
    assert report.end is not None
    if report.outcome == "interrupted":
        assert (report.end.status, report.end.reason) == ("interrupted", "for first")
    elif report.outcome == "deferred":
        assert scene.protects
        assert (report.end.status, report.end.reason) == ("interrupted", "for first")
    else:
        assert report.outcome in (None, "already_ended")
        assert report.end.status in ("completed", "failed")
    assert report.abandoned <= scene.stubborn


@pytest.mark.parametrize("scene", STAGES, ids=lambda scene: scene.name)
def test_an_interrupt_at_every_point_ends_the_turn_once_and_leaves_nothing(scene: Scene) -> None:
    """All points ran, in both ways, and those that ran twice went the same way."""
    clean = play(scene, None)
    assert clean.faults == []
    assert clean.points > 0 or scene.never_suspends
    for mode in MODES:
        cut = []
        for point in range(clean.points + 1):
            report = play(scene, point, mode)
            assert report.faults == [], (point, mode)
            expect_the_right_end(scene, report)
            assert point % TWICE or report == play(scene, point, mode), "the same again"
            cut.append(report.cut_at)
        assert cut == list(range(clean.points + 1)), "every point was met"
