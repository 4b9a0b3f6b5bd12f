"""Every limit of the server, with its unit and default.

Each is also an environment variable, `BARGEIN_` and the name in capitals, and a flag of
`bargein-server`, the name with dashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from bargein_protocol import OnBusy

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=1e9)]
Bytes = Annotated[int, Meta(ge=1024, le=2**31)]
Count = Annotated[int, Meta(ge=0, le=2**31)]
PositiveCount = Annotated[int, Meta(ge=1, le=2**31)]


class Settings(Struct, frozen=True, kw_only=True):
    """The limits. Durations are seconds, sizes are bytes.

    Args:
        on_busy: What an input does when a turn runs, unless it says so itself.
        cleanup: `overlap`: the next turn starts at once, beside the cleanups of old turns.
            `wait`: it starts when the cleanup is over, for agents whose turns share state.
        max_overlapping_cleanups: Cleanups of a session that may overlap a running turn; one more and the
            next turn waits for the first of them to end.
        cleanup_grace_s: How long a cancelled agent may take to clean up before a second cancel.
        cleanup_kill_s: How long it may take after that before it is abandoned.
        no_output_s: A turn that is pulled and yields nothing for this long fails.
        hold_s: An undecided hold resumes after this long.
        away_s: How long a turn goes on while its client is away; then it is interrupted.
        resume_s: How long a session without a turn waits for its client to come back.
        idle_s: A session whose client sends nothing for this long, while no turn runs, is closed.
        stream_closed: What becomes of a turn whose event stream its client closes. `away`: it goes on
            as after any lost connection. `interrupt`: it is interrupted.
        confirm_s: How long a tool call waits for the user's decision; then it is not allowed.
        drain_s: How long turns may go on when the server is told to stop.
        open_s: A connection that has not sent its first frame after this long is closed.
        heartbeat_s: At most this long passes without a frame to the client.
        turns: Turns that run at a time, of all sessions.
        waiting_turns: Turns that may wait until one of those ends; beyond it inputs are rejected.
        waiting_s: How long a turn waits for that before it fails.
        queued_inputs: Inputs of a session that may wait behind a running turn.
        head_s: How long the head of a request may take, the handshake's included.
        stalled_s: A connection whose peer acknowledges nothing for this long is dropped (Linux); so is
            one that does not answer a ping for this long, and a ping is sent in half of it.
        ticket_s: How long a ticket is good.
        sessions: Sessions that are kept, those included whose clients are away.
        connections: Connections that may be open.
        connections_per_address: And how many of them from one address.
        messages_per_s: Messages that a client may send in a second; twice as many at once. What a client
            that resumes sends again does not count: 192 messages.
        bytes_per_s: And their size.
        requests_per_s: Requests over HTTP that may come from one address in a second; twice as many at
            once. For their size the limit is `bytes_per_s`.
        head_bytes: The largest head of a request that is read.
        frame_bytes: The largest frame that is read.
        frame_pieces: Fragments of it; whoever means well needs none.
        pong_bytes: Pongs that may wait in the transport of a peer that does not read them; beyond it the
            connection is aborted.
        batch_inputs: Inputs of one batch.
        batch_bytes: And the size of its body.
        batch_concurrency: How many of them are answered at a time.
        batch_item_s: How long each may take.
        batch_s: How long all of them may take.
        output_bytes: Output of a turn that may wait to be written before the agent is not pulled.
        answer_bytes: Answers that may wait in the transport of a client that does not read; beyond
            it the connection is aborted.
        in_flight_bytes: Bytes that may be on their way to a client before output waits, for producers
            faster than the line; 0 sets no cap. At most this much arrives in a round trip (Linux).
        log_events: Frames of a session that can be replayed.
        log_bytes: And their size.
        history_turns: Turns of a session that are remembered.
        history_chars: And about how much they hold, in characters.
        model_calls: Model calls at a time, of all turns, through the client that turns are given.
        model_wait_s: How long one more waits for its place; then its turn fails with `overload`.
        model_keepalive: Idle connections to model servers that are kept for the next call.
        metrics: Whether `/metrics` is served, for Prometheus; needs `bargein[metrics]`.
        traces: Whether turns are traced with OpenTelemetry; needs `bargein[otel]`.
    """

    on_busy: OnBusy = "interrupt"
    cleanup: Literal["overlap", "wait"] = "overlap"
    max_overlapping_cleanups: Count = 4
    cleanup_grace_s: Seconds = 2.0
    cleanup_kill_s: Seconds = 0.5
    no_output_s: PositiveSeconds = 30.0
    hold_s: PositiveSeconds = 2.0
    away_s: Seconds = 120.0
    resume_s: Seconds = 300.0
    idle_s: PositiveSeconds = 21_600.0
    stream_closed: Literal["away", "interrupt"] = "away"
    confirm_s: PositiveSeconds = 300.0
    drain_s: Seconds = 3.0
    open_s: PositiveSeconds = 10.0
    heartbeat_s: PositiveSeconds = 15.0
    head_s: PositiveSeconds = 10.0
    stalled_s: PositiveSeconds = 20.0
    ticket_s: PositiveSeconds = 30.0
    sessions: PositiveCount = 20_000
    connections: PositiveCount = 10_000
    connections_per_address: PositiveCount = 1000
    messages_per_s: PositiveCount = 500
    bytes_per_s: Bytes = 4 * 1024 * 1024
    requests_per_s: PositiveCount = 1000
    turns: PositiveCount = 1000
    waiting_turns: Count = 1000
    waiting_s: PositiveSeconds = 60.0
    queued_inputs: Count = 8
    head_bytes: Bytes = 64 * 1024
    frame_bytes: Bytes = 256 * 1024
    frame_pieces: PositiveCount = 4096
    pong_bytes: Bytes = 256 * 1024
    batch_inputs: PositiveCount = 1000
    batch_bytes: Bytes = 4 * 1024 * 1024
    batch_concurrency: PositiveCount = 8
    batch_item_s: PositiveSeconds = 120.0
    batch_s: PositiveSeconds = 600.0
    output_bytes: Bytes = 64 * 1024
    answer_bytes: Bytes = 1024 * 1024
    in_flight_bytes: Count = 0
    log_events: PositiveCount = 4096
    log_bytes: Bytes = 1024 * 1024
    history_turns: PositiveCount = 256
    history_chars: PositiveCount = 1024 * 1024
    model_calls: PositiveCount = 50
    model_wait_s: PositiveSeconds = 25.0
    model_keepalive: Count = 50
    metrics: bool = False
    traces: bool = False


class SettingsError(ValueError):
    """A setting is unknown or out of bounds; the message names it."""


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Return settings from names and values; text is converted.

    Raises:
        SettingsError: A name is unknown or a value is wrong.
    """
    for name in values:
        if name not in Settings.__struct_fields__:
            raise SettingsError(f"unknown setting {name!r}")
    try:
        return msgspec.convert(dict(values), Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(str(error).replace("- at `$.", "for setting `")) from None


def settings_from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that `BARGEIN_…` variables give, by name."""
    return {
        name: environment[variable]
        for name in Settings.__struct_fields__
        if (variable := f"BARGEIN_{name.upper()}") in environment
    }
