"""Metrics in the text format of Prometheus.

Each application has its own registry. Labels have few values, all known beforehand: no text from a client
or an agent becomes a label. Gauges are computed at each scrape, from counts that the server keeps anyway.

This module imports prometheus_client, which the extra `metrics` installs, so other modules import it late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from typing import Any, ClassVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bargein_protocol import (
    ErrorEvent,
    Heartbeat,
    InputRejected,
    InterruptResult,
    ReplayDone,
    ServerEvent,
    Snapshot,
    TurnId,
    code_named,
)

from .recorder import REASONS, SessionRecord, Sink, TurnTiming

FENCE_S = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 0.1, 0.5, 1, 5)
"""Buckets for durations of microseconds; waiting for a section takes longer."""

CLEANUP_S = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2, 2.5, 5)
"""Buckets for cleanups; two are the defaults of the two timeouts."""

FIRST_OUTPUT_S = (1e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
VERDICT_S = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5)
TURN_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900)

Gauges = Callable[[], Mapping[str, float]]


class Metrics(Sink):
    """Sink that counts events for Prometheus.

    Args:
        gauges: Returns the current values of `GAUGES`.
        refusals: Returns the number of refused requests so far, by HTTP status.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    GAUGES: Mapping[str, str] = {
        "bargein_abandoned_tasks": "Tasks of turns that do not end after two cancels.",
        "bargein_background_tasks": "Tools that go on after their turns.",
        "bargein_threads_busy": "Threads in blocking functions of agents, after their turns too.",
        "bargein_threads_waiting": "Blocking functions of agents that wait for a thread.",
        "bargein_slots_taken": "Running turns; the setting `max_running_turns` is the limit.",
        "bargein_slots_waiting": "Turns that wait for a place; the setting `max_waiting_turns` is the limit.",
        "bargein_kept_bytes": "What all sessions keep; the setting `max_kept_bytes` is the limit.",
        "bargein_event_streams": "Open event streams over HTTP, followers included.",
        "bargein_draining": "1 while the server shuts down.",
        "bargein_handed_over_sockets": "Clients whose socket was handed over to another worker so far.",
        "bargein_handed_over_pipes": "Clients that another worker served through a pipe so far.",
        "bargein_forwarded_requests": "Requests that another worker has answered so far.",
        "bargein_moved_sessions": "Sessions that were moved to a new worker so far.",
        "bargein_pipes": "Open pipes to other workers.",
        "bargein_store_up": "1 while conversations are stored, 0 while they are in memory only.",
        "bargein_store_unsaved_seconds": "Time for which nobody has waited for the store; 0 while it works.",
        "bargein_store_failures": "Errors of the store so far.",
        "bargein_store_writes": "Writes of sessions to the store so far.",
        "bargein_listeners": "Sessions that are listened to; the setting `max_listeners` is the limit.",
        "bargein_detector_behind_seconds": "Time that the detector of speech is behind the sound.",
        "bargein_detector_frames_dropped": "Frames of silence that it had no time for, so far.",
        "bargein_recognitions_running": "Transcriptions and judgements that run.",
        "bargein_recognitions_waiting": "Transcriptions and judgements that wait for a place.",
        "bargein_echoes": "Onsets of speech that were the agent's own voice, so far.",
        "bargein_store_late": "1 while the store is slow, so that clients do not wait for it.",
        "bargein_store_write_seconds": "Time of the last batch of writes.",
        "bargein_store_unsaved_sessions": "Sessions with changes that no write has taken yet.",
        "bargein_store_rollbacks": "How often a shared store did not have what this server had written.",
        "bargein_sessions_fenced": "Sessions that another server has taken.",
        "bargein_sessions_claimed": "Sessions taken over from other servers, by the reason.",
        "bargein_sessions_moved": "Sessions that were released because their clients came to other servers.",
    }

    LABELS: ClassVar = {"bargein_sessions_claimed": "why"}
    """Labels of gauges whose keys are the name, a slash and the label's value."""

    def __init__(self, gauges: Gauges, refusals: Callable[[], Mapping[int, int]]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(_Scrape(self, gauges, refusals))
        self.open = {"attached": 0, "away": 0}
        self.connections = 0
        self.running: dict[TurnId, TurnTiming] = {}
        self.waiting: dict[TurnId, TurnTiming] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"bargein_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(
                f"bargein_{name}_seconds", text, labels, buckets=tuple(buckets), registry=registry
            )

        self._connections = counter("connections_opened", "Connections that were accepted.")
        self._closed = counter("connections_closed", "Connections that ended, by the server's code.", "code")
        self._sessions = counter(
            "sessions_opened",
            "First frames, by result: fresh, resumed, or the reason of a refusal.",
            "result",
        )
        self._sessions_closed = counter("sessions_closed", "Sessions that ended, by reason.", "reason")
        self._asked = counter("turns_asked", "Inputs that got a turn.")
        self._ended = counter("turns", "Turns that ended, by status and reason.", "status", "reason")
        self._abandoned = counter("turns_abandoned", "Turns whose task did not end after two cancels.")
        self._interrupts = counter("interrupts", "Answers to interrupts, by outcome.", "outcome")
        self._rejected = counter("inputs_rejected", "Inputs that got no turn, by code.", "code")
        self._errors = counter("errors", "Error events, by code.", "code")
        self._replays = counter("replays", "Resumes that were brought up to date.")
        self._snapshots = counter("snapshots", "Resumes that needed a snapshot.")
        self._heartbeats = counter("heartbeats", "Heartbeats.")
        self._tokens = counter("model_tokens", "Tokens of model calls, as reported by agents.", "kind")
        self._first = histogram("first_output", "From the input to the agent's first output.", FIRST_OUTPUT_S)
        self._turn = histogram("turn", "From the input to the turn's end, by status.", TURN_S, "status")
        self._fence = histogram(
            "interrupt_fence",
            "From the step that read an interrupt, or an input that interrupts, to the fence.",
            FENCE_S,
        )
        self._cleanup = histogram(
            "interrupt_cleanup", "From the fence to the end of the agent's task.", CLEANUP_S
        )
        self._add_speech(counter, histogram)

    def _add_speech(self, counter: Callable[..., Counter], histogram: Callable[..., Histogram]) -> None:
        self._speech = counter(
            "speech_decisions",
            "Decisions on users' speech: start, hold, resume (a false stop), end (a barge-in), commit, …",
            "decision",
        )
        self._hold = histogram(
            "speech_hold", "Sound from the start of speech to the hold of a turn.", VERDICT_S
        )
        self._verdict = histogram(
            "speech_verdict", "From the hold of a turn to its resume or its end.", VERDICT_S, "decision"
        )
        self._recognised = counter("recognitions", "Recognitions of speech, by result.", "kind", "result")
        self._recognition = histogram(
            "recognition", "Duration of a recognition that was done, with its wait.", VERDICT_S, "kind"
        )

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def connected(self) -> None:
        self.connections += 1
        self._connections.inc()

    def disconnected(self, code: str) -> None:
        self.connections -= 1
        self._closed.labels(code).inc()

    def session_opened(self, session: SessionRecord) -> None:
        self.open["away"] += 1

    def session_attached(self, session: SessionRecord, result: str) -> None:
        self.open["attached"] += 1
        self.open["away"] -= 1
        self._sessions.labels(result).inc()

    def session_detached(self, session: SessionRecord) -> None:
        self.open["attached"] -= 1
        self.open["away"] += 1

    def session_closed(self, session: SessionRecord, reason: str, now: float) -> None:
        self.open["away"] -= 1
        self._sessions_closed.labels(reason).inc()

    def answered(self, session: SessionRecord, event: ServerEvent) -> None:
        count = _COUNTS.get(type(event))
        if count is not None:
            count(self, event)

    def speech(self, session: SessionRecord, decision: str, spoken_s: float, held_s: float | None) -> None:
        self._speech.labels(decision).inc()
        if decision == "hold":
            self._hold.observe(spoken_s)
        if held_s is not None:
            self._verdict.labels(decision).observe(held_s)

    def recognised(self, kind: str, result: str, seconds: float) -> None:
        self._recognised.labels(kind, result).inc()
        if result == "done":
            self._recognition.labels(kind).observe(seconds)

    def turn_asked(self, session: SessionRecord, turn: TurnTiming) -> None:
        self._asked.inc()
        self.waiting[turn.turn.id] = turn

    def turn_started(self, session: SessionRecord, turn: TurnTiming, context: Context) -> None:
        if turn.ended_at is None:
            self.running[turn.turn.id] = self.waiting.pop(turn.turn.id)

    def turn_output(self, session: SessionRecord, turn: TurnTiming) -> None:
        assert turn.output_at is not None
        self._first.observe(turn.output_at - turn.asked_at)

    def turn_ended(self, session: SessionRecord, turn: TurnTiming) -> None:
        event, ended_at = turn.event, turn.ended_at
        assert event is not None
        assert ended_at is not None
        self.running.pop(event.turn_id, None)
        self.waiting.pop(event.turn_id, None)
        self._ended.labels(event.status, event.reason if event.reason in REASONS else "other").inc()
        self._turn.labels(event.status).observe(ended_at - turn.asked_at)
        if event.status == "interrupted" and turn.cut_at is not None:
            self._fence.observe(ended_at - turn.cut_at)
        if event.usage is not None:
            self._tokens.labels("input").inc(event.usage.input_tokens)
            self._tokens.labels("output").inc(event.usage.output_tokens)

    def turn_over(self, session: SessionRecord, turn: TurnTiming) -> None:
        assert turn.event is not None
        if turn.abandoned:
            self._abandoned.inc()
        if turn.event.status == "interrupted" and turn.started_at is not None:
            assert turn.over_at is not None
            assert turn.ended_at is not None
            self._cleanup.observe(turn.over_at - turn.ended_at)

    def _count_rejected(self, event: InputRejected) -> None:
        self._rejected.labels(_known(event.code)).inc()

    def _count_error(self, event: ErrorEvent) -> None:
        self._errors.labels(_known(event.code)).inc()

    def _count_interrupt(self, event: InterruptResult) -> None:
        self._interrupts.labels("duplicate" if event.duplicate else event.outcome).inc()

    def _count_replay(self, event: ReplayDone) -> None:
        self._replays.inc()

    def _count_snapshot(self, event: Snapshot) -> None:
        self._snapshots.inc()

    def _count_heartbeat(self, event: Heartbeat) -> None:
        self._heartbeats.inc()


_COUNTS: dict[type, Callable[[Metrics, Any], None]] = {
    InputRejected: Metrics._count_rejected,
    ErrorEvent: Metrics._count_error,
    InterruptResult: Metrics._count_interrupt,
    ReplayDone: Metrics._count_replay,
    Snapshot: Metrics._count_snapshot,
    Heartbeat: Metrics._count_heartbeat,
}


def _known(code: str) -> str:
    return code if code_named(code) is not None else "other"


class _Scrape(Collector):
    """Metrics that are computed at each scrape."""

    def __init__(self, metrics: Metrics, gauges: Gauges, refusals: Callable[[], Mapping[int, int]]) -> None:
        self._metrics = metrics
        self._gauges = gauges
        self._refusals = refusals

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        metrics = self._metrics
        sessions = GaugeMetricFamily(
            "bargein_sessions", "Sessions, by whether a connection drives them.", labels=["state"]
        )
        for state, count in metrics.open.items():
            sessions.add_metric([state], count)
        yield sessions
        turns = GaugeMetricFamily(
            "bargein_turns_open", "Turns that run or wait for their start.", labels=["state"]
        )
        turns.add_metric(["running"], len(metrics.running))
        turns.add_metric(["waiting"], len(metrics.waiting))
        yield turns
        queued = sum(record.turn.queued_bytes for record in metrics.running.values())
        yield GaugeMetricFamily("bargein_connections", "Open connections.", metrics.connections)
        yield GaugeMetricFamily(
            "bargein_queued_bytes", "Approximate size of the output that waits to be written.", queued
        )
        yield from self._families()
        refused = CounterMetricFamily(
            "bargein_requests_refused", "Requests that were refused, by HTTP status.", labels=["status"]
        )
        for status, count in self._refusals().items():
            refused.add_metric([str(status)], count)
        yield refused

    def _families(self) -> Iterable[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for key, value in self._gauges().items():
            name, _, label = key.partition("/")
            labels = [Metrics.LABELS[name]] if label else []
            if name not in families:
                families[name] = GaugeMetricFamily(name, Metrics.GAUGES[name], labels=labels)
            families[name].add_metric([label] if label else [], value)
        return families.values()
