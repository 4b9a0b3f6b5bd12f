"""Settings of a server: limits, timeouts and switches.

Help texts, error messages and server/docs/settings.md are made from the descriptions here; see
`settings_reader` for the names of environment variables and flags.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from bargein_protocol import OnBusy

# At most 2 ** 31 - 1 milliseconds: larger numbers overflow timers of JavaScript and options of sockets.
Seconds = Annotated[float, Meta(ge=0, le=2e6, extra={"unit": "seconds"})]
PositiveSeconds = Annotated[float, Meta(gt=0, le=2e6, extra={"unit": "seconds"})]
LeaseSeconds = Annotated[float, Meta(ge=1, le=86_400, extra={"unit": "seconds"})]
StoredSeconds = Annotated[float, Meta(gt=0, le=3.2e9, extra={"unit": "seconds"})]
Bytes = Annotated[int, Meta(ge=1024, le=2**31, extra={"unit": "bytes"})]
ByteCap = Annotated[int, Meta(ge=0, le=2**31, extra={"unit": "bytes"})]
BytesPerSecond = Annotated[int, Meta(ge=1024, le=2**31, extra={"unit": "bytes per second"})]
PerSecond = Annotated[int, Meta(ge=1, le=2**31, extra={"unit": "per second"})]
Characters = Annotated[int, Meta(ge=1, le=2**31, extra={"unit": "characters"})]
Count = Annotated[int, Meta(ge=0, le=2**31, extra={"unit": ""})]
PositiveCount = Annotated[int, Meta(ge=1, le=2**31, extra={"unit": ""})]
Share = Annotated[float, Meta(gt=0, le=1, extra={"unit": ""})]

TURNS, SESSIONS, CONNECTIONS = "Turns", "Sessions", "Connections and requests"
OUTPUT, BATCHES, MODELS = "Output, replay and history", "Batches", "Calls of models and tools"
TELEMETRY, STORE, SPEECH = "Telemetry", "Store of conversations", "Speech"


def _about(group: str, description: str) -> Meta:
    return Meta(description=description, extra={"group": group})


class Settings(Struct, frozen=True, kw_only=True):
    """Limits, timeouts and switches of a server.

    `bargein-server --help` lists them with their units and defaults.
    """

    on_busy: Annotated[
        OnBusy, _about(TURNS, "Effect of an input while a turn runs, unless the input has its own `on_busy`.")
    ] = "interrupt"
    cleanup: Annotated[
        Literal["overlap", "wait"],
        _about(
            TURNS,
            "Start of the next turn while an interrupted one cleans up: `overlap` starts it immediately, "
            "beside a few cleanups; `wait` starts it after the cleanup, for agents whose turns share state.",
        ),
    ] = "overlap"
    max_overlapping_cleanups: Annotated[
        Count,
        _about(
            TURNS,
            "Cleanups of a session that may overlap a running turn; one more and it waits.",
        ),
    ] = 4
    cleanup_grace_s: Annotated[
        Seconds, _about(TURNS, "Time that a cancelled agent has to clean up before the second cancel.")
    ] = 2.0
    cleanup_kill_s: Annotated[
        Seconds, _about(TURNS, "Time from the second cancel until the agent's task is abandoned.")
    ] = 0.5
    no_output_s: Annotated[
        PositiveSeconds,
        _about(
            TURNS,
            "Time without output after which a turn fails, unless a tool runs or a model is at work: see "
            "`model_first_byte_s` and `model_silence_s`.",
        ),
    ] = 30.0
    turn_s: Annotated[
        Seconds,
        _about(TURNS, "Time for a whole turn; then it fails with `timeout`. 0 for no limit."),
    ] = 0.0
    hold_s: Annotated[PositiveSeconds, _about(TURNS, "Time after which an undecided hold resumes.")] = 2.0
    paused_s: Annotated[
        PositiveSeconds,
        _about(
            TURNS,
            "Time that a turn may be paused by a client that holds it or does not read; then it fails with "
            "`timeout`.",
        ),
    ] = 120.0
    max_running_turns: Annotated[
        PositiveCount, _about(TURNS, "Turns that run at a time, in all sessions.")
    ] = 1000
    max_waiting_turns: Annotated[
        Count, _about(TURNS, "Turns that wait for a place among the running ones; more inputs are rejected.")
    ] = 1000
    turn_wait_s: Annotated[
        PositiveSeconds,
        _about(TURNS, "Time that a turn waits for such a place before it fails with `overload`."),
    ] = 60.0
    max_queued_inputs: Annotated[
        Count, _about(TURNS, "Inputs of one session that wait behind its running turn.")
    ] = 8
    drain_s: Annotated[
        Seconds, _about(TURNS, "Time that running turns have to complete when the server shuts down.")
    ] = 3.0
    startup_s: Annotated[
        PositiveSeconds,
        _about(TURNS, "Time that the agent's `startup()` has; then the server does not start."),
    ] = 600.0
    shutdown_s: Annotated[
        Seconds, _about(TURNS, "Time that the agent's `shutdown()` has; then it is cancelled.")
    ] = 3.0

    max_sessions: Annotated[
        PositiveCount, _about(SESSIONS, "Sessions in memory, including those whose client is away.")
    ] = 20_000
    away_s: Annotated[
        Seconds, _about(SESSIONS, "Time that a turn goes on without its client before it is interrupted.")
    ] = 120.0
    resume_s: Annotated[
        Seconds,
        _about(SESSIONS, "Time that a session without a running turn waits for its client to resume it."),
    ] = 300.0
    idle_s: Annotated[
        PositiveSeconds,
        _about(SESSIONS, "Time without a message from the client and without a turn that ends a session."),
    ] = 21_600.0
    heartbeat_s: Annotated[
        PositiveSeconds, _about(SESSIONS, "Longest time without a frame to the client.")
    ] = 15.0
    stream_closed: Annotated[
        Literal["away", "interrupt"],
        _about(
            SESSIONS,
            "Effect on a turn when its client closes the event stream: `away` lets it go on as after a lost "
            "connection, `interrupt` interrupts it.",
        ),
    ] = "away"

    max_connections: Annotated[PositiveCount, _about(CONNECTIONS, "Open connections.")] = 10_000
    max_connections_per_address: Annotated[
        PositiveCount, _about(CONNECTIONS, "Open connections from one address.")
    ] = 1000
    max_client_share: Annotated[
        Share,
        _about(
            CONNECTIONS,
            "Part of the sessions, running turns, waiting turns, tickets and bodies that one client may use, "
            "a principal, or an address without authentication; 1 for a server with a single client.",
        ),
    ] = 0.75
    first_frame_s: Annotated[
        PositiveSeconds, _about(CONNECTIONS, "Time that a new connection has for its first frame.")
    ] = 10.0
    stalled_s: Annotated[
        PositiveSeconds,
        _about(
            CONNECTIONS,
            "Time after which a connection is dropped whose peer acknowledges nothing (Linux) or does not "
            "answer a ping. Pings are sent every half of it.",
        ),
    ] = 20.0
    authenticator_s: Annotated[
        PositiveSeconds,
        _about(CONNECTIONS, "Time for one call of the authenticator; then the client is refused for now."),
    ] = 5.0
    ticket_lifetime_s: Annotated[PositiveSeconds, _about(CONNECTIONS, "Lifetime of a ticket.")] = 30.0
    max_messages_per_s: Annotated[
        PerSecond,
        _about(
            CONNECTIONS,
            "Messages from one client; bursts of twice as many are allowed. After a resume, 192 messages do "
            "not count.",
        ),
    ] = 500
    max_frames_per_s: Annotated[
        PerSecond,
        _about(CONNECTIONS, "Frames of one connection, pings and fragments too; bursts of twice as many."),
    ] = 4096
    max_bytes_per_s: Annotated[
        BytesPerSecond,
        _about(CONNECTIONS, "Total size of the messages from one client, or requests from one address."),
    ] = 4 * 1024 * 1024
    max_requests_per_s: Annotated[
        PerSecond, _about(CONNECTIONS, "HTTP requests from one address; bursts of twice as many are allowed.")
    ] = 1000
    request_head_s: Annotated[
        PositiveSeconds, _about(CONNECTIONS, "Time for the head of a request, handshakes included.")
    ] = 10.0
    max_head_bytes: Annotated[Bytes, _about(CONNECTIONS, "Size of the head of a request.")] = 64 * 1024
    request_body_s: Annotated[PositiveSeconds, _about(CONNECTIONS, "Time for the body of a request.")] = 30.0
    max_body_bytes: Annotated[
        Bytes,
        _about(
            CONNECTIONS,
            "Total size of the bodies of all requests at a time; a quarter of it for clients that have not "
            "authenticated yet.",
        ),
    ] = 64 * 1024 * 1024
    max_frame_bytes: Annotated[Bytes, _about(CONNECTIONS, "Size of a message from a client.")] = 256 * 1024
    max_conversation_bytes: Annotated[
        Bytes,
        _about(CONNECTIONS, "Size of a request that has the whole conversation, as other protocols send it."),
    ] = 4 * 1024 * 1024
    max_frame_fragments: Annotated[
        PositiveCount, _about(CONNECTIONS, "Fragments of a message from a client.")
    ] = 4096
    max_pong_bytes: Annotated[
        Bytes,
        _about(CONNECTIONS, "Pongs that wait for a peer that does not read; more abort the connection."),
    ] = 256 * 1024

    max_queued_output_bytes: Annotated[
        Bytes, _about(OUTPUT, "Output of a turn that waits to be written; the agent is paused beyond it.")
    ] = 64 * 1024
    max_queued_answer_bytes: Annotated[
        Bytes, _about(OUTPUT, "Answers that wait for a client that does not read; more abort the connection.")
    ] = 1024 * 1024
    max_in_flight_bytes: Annotated[
        ByteCap,
        _about(
            OUTPUT,
            "Bytes on their way to a client before output waits, for producers faster than the line (Linux); "
            "0 for no cap.",
        ),
    ] = 0
    max_log_events: Annotated[PositiveCount, _about(OUTPUT, "Events of a session that can be replayed.")] = (
        4096
    )
    max_log_bytes: Annotated[Bytes, _about(OUTPUT, "Total size of the events that can be replayed.")] = (
        1024 * 1024
    )
    max_kept_bytes: Annotated[
        Bytes,
        _about(
            OUTPUT,
            "Total size of the logs, histories and waiting inputs of all sessions. Beyond it sessions end "
            "whose clients are away, then inputs and new sessions are refused.",
        ),
    ] = 512 * 1024 * 1024
    max_history_turns: Annotated[PositiveCount, _about(OUTPUT, "Turns in the history of a session.")] = 256
    max_history_chars: Annotated[
        Characters, _about(OUTPUT, "Approximate total length of the history of a session.")
    ] = 1024 * 1024

    keep_s: Annotated[
        StoredSeconds,
        _about(STORE, "Time after its last use for which a store keeps a conversation."),
    ] = 30 * 86_400.0
    store_flush_s: Annotated[
        PositiveSeconds,
        _about(STORE, "Interval in which output is stored: what a process that dies may lose of it."),
    ] = 0.1
    lease_s: Annotated[
        LeaseSeconds,
        _about(
            STORE,
            "Time after which a server that no longer renews its lease in a shared store counts as dead; "
            "others may then claim its sessions.",
        ),
    ] = 6.0
    store_wait_s: Annotated[
        PositiveSeconds,
        _about(STORE, "Time that clients wait for a slow store; then the server goes on without it."),
    ] = 0.25

    max_batch_inputs: Annotated[PositiveCount, _about(BATCHES, "Inputs of one batch.")] = 1000
    max_batch_bytes: Annotated[Bytes, _about(BATCHES, "Size of the body of a batch request.")] = (
        4 * 1024 * 1024
    )
    max_batch_concurrency: Annotated[
        PositiveCount, _about(BATCHES, "Inputs of a batch that run at a time.")
    ] = 8
    batch_item_s: Annotated[PositiveSeconds, _about(BATCHES, "Time for one input of a batch.")] = 120.0
    batch_s: Annotated[PositiveSeconds, _about(BATCHES, "Time for a whole batch.")] = 600.0

    max_threads: Annotated[
        PositiveCount, _about(MODELS, "Threads for plain functions as tools, of all sessions.")
    ] = 256
    max_threads_per_session: Annotated[
        PositiveCount,
        _about(
            MODELS,
            "Threads for plain functions of one session. An interrupted one counts until it returns.",
        ),
    ] = 8
    thread_wait_s: Annotated[
        PositiveSeconds,
        _about(MODELS, "Time that such a call waits for a free thread before it fails."),
    ] = 10.0
    confirm_s: Annotated[
        PositiveSeconds,
        _about(MODELS, "Time that a tool call waits for the user's decision; then the call is not allowed."),
    ] = 300.0
    close_model_calls: Annotated[
        bool,
        _about(
            MODELS,
            "Close streamed requests of every httpx2 or httpx client with their turn; off: those through "
            "`turn.http_client()` and `bargein_server.http_client()` alone.",
        ),
    ] = True
    max_model_calls: Annotated[
        PositiveCount,
        _about(
            MODELS,
            "Model calls at a time through `turn.http_client()` and `bargein_server.http_client()`, in all "
            "turns; other clients have limits of their own.",
        ),
    ] = 50
    model_wait_s: Annotated[
        PositiveSeconds,
        _about(MODELS, "Time that a further model call waits before its turn fails with `overload`."),
    ] = 25.0
    model_connect_s: Annotated[PositiveSeconds, _about(MODELS, "Time to connect to a model's server.")] = 5.0
    model_first_byte_s: Annotated[
        PositiveSeconds,
        _about(
            MODELS,
            "Time that a model's server has for the first byte of its answer. Reasoning models may think for "
            "minutes.",
        ),
    ] = 600.0
    model_silence_s: Annotated[
        PositiveSeconds,
        _about(
            MODELS,
            "Time without a byte within a model's answer after which it has failed. Comments that keep the "
            "stream alive and empty deltas count as bytes.",
        ),
    ] = 120.0
    max_idle_model_connections: Annotated[
        Count, _about(MODELS, "Idle connections to model servers that are kept for the next call.")
    ] = 50

    speech_start_s: Annotated[
        PositiveSeconds,
        _about(
            SPEECH,
            "Sound that must be speech, without a break, before the user counts as speaking; a frame that is "
            "certainly speech counts twice.",
        ),
    ] = 0.064
    speech_sure_s: Annotated[
        PositiveSeconds,
        _about(SPEECH, "Speech after which a held turn ends, whatever the words are."),
    ] = 0.9
    speech_judge_s: Annotated[
        PositiveSeconds,
        _about(SPEECH, "Silence after which transcription begins, and the judgement if there is a judge."),
    ] = 0.2
    speech_silence_s: Annotated[
        PositiveSeconds,
        _about(SPEECH, "Silence that ends the user's speech, unless the client asks for another one."),
    ] = 0.5
    speech_partial_s: Annotated[
        Seconds,
        _about(SPEECH, "Speech between two partial transcripts while the user speaks; 0 for none."),
    ] = 0.7
    speech_prefix_s: Annotated[
        Seconds, _about(SPEECH, "Sound before the start of the speech that is transcribed as well.")
    ] = 0.3
    max_listeners: Annotated[
        Count, _about(SPEECH, "Sessions that are listened to at a time; further ones get no input audio.")
    ] = 100
    max_recognitions: Annotated[
        Count,
        _about(
            SPEECH, "Transcriptions that run at a time; 0 for one per processor. Eight times as many wait."
        ),
    ] = 0
    recognition_s: Annotated[
        PositiveSeconds, _about(SPEECH, "Time that a transcription has, with its wait; then it fails.")
    ] = 5.0
    speak_ahead_s: Annotated[
        Seconds, _about(SPEECH, "Sound that is sent before it is played; an interrupt discards it.")
    ] = 0.4
    utterance_s: Annotated[
        PositiveSeconds, _about(SPEECH, "Length at which speech without a pause is cut and answered.")
    ] = 60.0

    metrics: Annotated[
        bool, _about(TELEMETRY, "Serve `/metrics` for Prometheus; needs `bargein[metrics]`.")
    ] = False
    traces: Annotated[bool, _about(TELEMETRY, "Trace turns with OpenTelemetry; needs `bargein[otel]`.")] = (
        False
    )


def share_of(most: int, share: float) -> int:
    """Return a client's part of a pool: at least 1, unless the pool has none."""
    return min(most, max(1, math.ceil(most * share)))
