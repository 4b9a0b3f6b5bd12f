/**
 * Core of the client: no I/O, no clock and no randomness.
 *
 * Ids are given to the core, and the owner of the connection calls
 *
 *     attach()      when a channel is open; then sends `outgoing()`, and again after each call
 *     receive()     for each event; a ServerViolation means: drop the channel
 *     detach()      when the channel is gone
 *
 * Events for the application wait in inboxes: those of each turn, and one of each `turns.subscribe()`. Answers
 * to requests and ends of turns wait in `outcomes()`. `phases.js` has the table of the events that each phase
 * allows, `delivery.js` the table of the states of a turn's output.
 *
 * @module
 */
/** @import { AnyEvent, ClientInfo, Commit, Cursor, Input, Interrupt, JsonObject, Limits, Outcome, Played } from "./types.js" */
/** @import { ResumeState, ServerEventOf, SessionAudio, SessionOpen, SessionRewind, ToolAnswer } from "./types.js" */
/** @import { Phase } from "./phases.js" */
/** @import { TrackedTurn } from "./tracked_turn.js" */

import { row } from "./codes.js";
import { BOUNDS } from "./inbox.js";
import { isNumbered, turnOf, withoutNulls } from "./kinds.js";
import { AudioInput } from "./microphone.js";
import { checked, INPUTS, Outbox } from "./outbox.js";
import { check } from "./phases.js";
import { SendQueue } from "./send_queue.js";
import { SequenceTracker } from "./sequence.js";
import { lostEnd, OUTCOME_SIGNALS, TurnRegistry } from "./turn_registry.js";

const MAX_HEARTBEAT_MS = 600_000; // the longest interval between frames that a server may announce
/** One session from the client's point of view. */
export class ClientCore {
  /** @type {SessionOpen} */
  #opening;
  #sequence = new SequenceTracker();
  #queue = new SendQueue();
  #outbox = new Outbox();
  #inOpening = new Set(/** @type {string[]} */ ([]));
  #lost = new Set(/** @type {string[]} */ ([]));
  /** @type {Outcome[]} */
  #outcomes = [];

  /**
   * @param {object} [options]
   * @param {string | null} [options.auth] A credential for `session.open`.
   * @param {ClientInfo | null} [options.client] Name and version of the client program.
   * @param {import("./inbox.js").Bounds} [options.bounds] Capacity of each inbox.
   * @param {SessionAudio | null} [options.audio] Audio to send and to get.
   */
  constructor({ auth = null, client = null, bounds = BOUNDS, audio = null } = {}) {
    this.#opening = withoutNulls({ type: "session.open", auth, client, audio });
    /** The session's audio. */
    this.audio = new AudioInput(this.#queue, audio);
    /** Phase of the connection. @type {Phase} */
    this.phase = "offline";
    /** Public id of the session; null before the first `session.opened`. @type {string | null} */
    this.sessionId = null;
    /** The secret that resumes the session. */
    this.token = "";
    /** Epoch of the numbers. */
    this.epoch = "";
    /** The server's limits; null before the first `session.opened`. @type {Limits | null} */
    this.limits = null;
    /** The longest silence of the server; 0 when unknown. */
    this.heartbeatMs = 0;
    /** Delay that the server asked for before the next connection; null without one. @type {number | null} */
    this.reconnectAfterMs = null;
    /** The turns that have not ended. */
    this.turns = new TurnRegistry(bounds);
  }

  /** The last number that was taken. */
  get lastSeq() {
    return this.#sequence.lastSeq;
  }

  /** Position of the session, for a resume. @returns {Cursor} */
  get cursor() {
    return { epoch: this.epoch, seq: this.lastSeq };
  }

  /** The requests that wait for an answer, and the application parameters. */
  get kept() {
    return { pending: [...this.#outbox.unanswered.values()], metadata: this.#outbox.metadata };
  }

  /** Continues the session of an earlier core with the next `attach`; `restore` adds its turns. @param {ResumeState} state */
  adopt(state) {
    this.sessionId = state.session_id;
    this.token = state.token;
    this.limits = state.limits;
    this.epoch = state.cursor.epoch;
    this.#sequence.lastSeq = state.cursor.seq;
    for (const request of state.pending) this.#outbox.keep(request);
    if (Object.keys(state.metadata).length > 0) this.#outbox.merge(state.metadata);
  }

  // --- for the application -------------------------------------------------------------------------

  /**
   * Asks for a turn with text or with the speech so far; an interrupting text withholds the output of the running turns
   * (contract 2). It is delivered if the server does not interrupt them. Throws `TooManyPending` and `TooLarge`.
   *
   * @param {Input | Commit} event
   */
  sendInput(event) {
    event = this.#outbox.admit(event, this.limits);
    this.audio.flush();
    const interrupts = event.type === "input.text" && (event.on_busy == null || event.on_busy === "interrupt");
    for (const turn of interrupts ? this.turns.notQueued() : []) {
      if (turn.turnId !== null) this.#report(turn, turn.impliedPlayback());
      this.turns.withhold(turn, event.id);
    }
    this.#queue.appendRequest(event);
    return this.turns.add(event.id, event.type === "input.text" ? event.text : null);
  }

  /**
   * Ends a turn and withholds its output from now on; fills in the turn, and how much of it was played. Throws
   * `TooManyPending`; then nothing was sent.
   *
   * @param {Interrupt} event
   * @param {TrackedTurn} turn
   */
  interrupt(event, turn) {
    const target = turn.turnId === null ? { input_id: turn.inputId } : { turn_id: turn.turnId };
    if (event.played != null) turn.reporter = "application";
    // Output still on its way is not shown, so the server's own count would be too high.
    const played = event.played ?? turn.impliedPlayback();
    event = this.#outbox.admit(withoutNulls({ ...event, ...target, played }), this.limits);
    this.#queue.appendRequest(event);
    this.turns.withhold(turn, event.id);
  }

  /** Drops a turn and all later ones; output of those that run is withheld. Throws `TooManyPending`. @param {SessionRewind} event */
  rewind(event) {
    event = this.#outbox.admit(event, this.limits);
    for (const turn of this.turns.since(event.turn_id)) this.turns.withhold(turn, event.id);
    this.#queue.appendRequest(event);
  }

  /** Pauses a turn's output. Dropped while offline: a hold is about this moment. @param {TrackedTurn} turn */
  hold({ turnId }) {
    if (turnId !== null) this.#queue.appendBounded({ type: "turn.hold", turn_id: turnId });
  }

  /** Resumes a held turn. Dropped while offline: the server resumes it anyway. @param {TrackedTurn} turn */
  resume({ turnId }) {
    if (turnId !== null) this.#queue.appendBounded({ type: "turn.resume", turn_id: turnId });
  }

  /** Reports how much of a turn was played; ignored for a turn without an id. @param {TrackedTurn} turn @param {Played} played */
  playback(turn, played) {
    if (turn.turnId !== null) turn.reporter = "application";
    this.#report(turn, played);
  }

  /** Merges application parameters into the session's metadata; a null removes its key. @param {JsonObject} metadata */
  update(metadata) {
    const event = checked({ type: "session.update", metadata }, this.limits);
    this.#queue.appendBounded(event);
    this.#outbox.merge(event.metadata);
  }

  /** Sends the output or the decision that a tool call waits for. @param {ToolAnswer} event */
  answerTool(event) {
    event = checked(event, this.limits);
    this.#queue.appendBounded(event);
    this.#outbox.keepTool(event);
  }

  /** Asks the server for a sign of life; dropped while offline. @param {string} id */
  ping(id) {
    this.#queue.appendBounded({ type: "ping", id });
  }

  /** Ends the session for good; does nothing while offline. */
  closeSession() {
    if (this.phase !== "offline") this.#queue.append({ type: "session.close" });
  }

  // --- for the owner of the connection -------------------------------------------------------------

  /**
   * Begins on an open channel; `session.open` is the first event to send.
   * @param {string | null} auth A credential for this channel alone, in place of the usual one.
   */
  attach(auth = null) {
    let opening = auth === null ? this.#opening : { ...this.#opening, auth };
    this.#inOpening = new Set();
    if (this.sessionId !== null && this.limits !== null) {
      opening = { ...opening, resume: { session_id: this.sessionId, token: this.token, cursor: this.cursor } };
      const pending = this.#outbox.pending(opening, this.limits.frame_bytes);
      if (pending.length > 0) opening = { ...opening, pending };
      this.#inOpening = new Set(pending.map((request) => request.id));
    }
    this.#lost = new Set();
    this.#sequence.beginChannel();
    this.reconnectAfterMs = null;
    this.phase = "opening";
    this.#queue.reset([opening]);
  }

  /** Ends the use of a channel. The next one repeats the events that must arrive. */
  detach() {
    this.phase = "offline";
    this.audio.close();
    this.#queue.reset();
  }

  /**
   * Takes an event in. Throws a `ServerViolation` for an event that is out of place, and nothing has changed. Drop the channel,
   * `detach()`, and open another one: the session resumes after the last valid event.
   *
   * @param {AnyEvent} event
   * @returns {boolean} False for a duplicate, and while offline.
   */
  receive(event) {
    if (this.phase === "offline") return false;
    check(event, this.phase, this.lastSeq, this.epoch);
    if (turnOf(event)) this.turns.checkRoom(turnOf(event));
    const count = this.#sequence.countMissing(event);
    if (count > 0) this.turns.publish({ type: "client.lost", count });
    if (isNumbered(event) && event.seq) {
      if (this.#sequence.isDuplicate(event.seq)) return false;
      this.turns.refuseEnded(turnOf(event));
      this.#sequence.lastSeq = event.seq;
    }
    this.#handle(event);
    return true;
  }

  /** Returns the events to send now, in order; each is returned once. */
  outgoing() {
    return this.#queue.drain();
  }

  /** Returns the next event to send; undefined when there is none. */
  nextOutgoing() {
    return this.#queue.next();
  }

  /** Returns answers to requests, and ends of turns. */
  outcomes() {
    return this.#outcomes.splice(0);
  }

  /** @param {TrackedTurn} turn @param {Played | null} played */
  #report({ turnId }, played) {
    if (turnId === null || played === null) return;
    this.#queue.appendPlayback(this.#outbox.report(turnId, played));
  }

  // --- receiving -----------------------------------------------------------------------------------

  /** @param {AnyEvent} event */
  #handle(event) {
    switch (event.type) {
      case "session.opened":
        return this.#opened(/** @type {ServerEventOf<"session.opened">} */ (event));
      case "replay.done":
        return this.#replayDone(event);
      case "snapshot":
        return this.#snapshot(/** @type {ServerEventOf<"snapshot">} */ (event));
      case "goaway":
        this.reconnectAfterMs = event.reconnect_after_ms;
        return this.turns.publish(event);
      case "input.accepted":
      case "input.queued":
        return this.#inputAnswered(/** @type {ServerEventOf<"input.accepted" | "input.queued">} */ (event));
      case "interrupt.result":
        return this.#interruptResult(/** @type {ServerEventOf<"interrupt.result">} */ (event));
      case "session.rewound":
        return this.#rewound(/** @type {ServerEventOf<"session.rewound">} */ (event));
      case "input.rejected":
        return this.#refused(event, event.input_id);
      case "error":
        if (event.code === "unknown_call") this.#outbox.toolSettled(event.ref_id ?? "");
        if (!this.#lost.has(event.ref_id)) this.#refused(event, event.ref_id ?? "");
        return;
      default:
        if (turnOf(event) && event.seq) this.#turnEvent(event);
        else this.turns.publish(event);
    }
  }

  /** @param {ServerEventOf<"session.opened">} event */
  #opened(event) {
    if (!event.resumed && this.sessionId !== null) this.#lose(event.reason || "unknown_session");
    this.sessionId = event.session_id;
    this.token = event.token;
    this.epoch = event.epoch;
    this.limits = event.limits;
    this.audio.open(event.audio ?? null);
    this.heartbeatMs = Math.min(event.heartbeat_ms, MAX_HEARTBEAT_MS);
    this.phase = event.resumed ? "replaying" : "live";
    if (!event.resumed) this.#sequence.lastSeq = 0;
    this.#queue.accepts = true;
    this.#queue.append(...this.#outbox.afterOpen(this.#inOpening, event.limits.frame_bytes));
  }

  /** Ends the turns and refuses the requests of a session that the server has lost. @param {string} reason */
  #lose(reason) {
    this.turns.publish({ type: "client.restarted", reason });
    for (const turn of this.turns.inFlight()) this.#end(turn, lostEnd(turn));
    this.turns.forgetEnded();
    const { name: code, reason: message } = row("session_lost");
    for (const { id } of this.#outbox.lose()) {
      // The server sends the same for those that it received; `#handle` drops these copies.
      this.#lost.add(id);
      this.#refused({ type: "error", code, message, ref_id: id, retryable: true }, id);
    }
  }

  /** @param {AnyEvent} event */
  #replayDone(event) {
    this.#sequence.lastSeq = Math.max(this.lastSeq, event.through);
    this.phase = "live";
    this.turns.publish({ type: "client.resumed" });
  }

  /** @param {ServerEventOf<"snapshot">} event */
  #snapshot(event) {
    this.#sequence.lastSeq = event.through;
    const over = this.turns.applySnapshot(event);
    for (const { turn_id, input_id } of event.turns) {
      if (input_id == null || this.#outbox.answer(input_id, INPUTS) === undefined) continue;
      const tracked = this.turns.ofInput(input_id);
      /** @type {AnyEvent} */
      const accepted = { type: "input.accepted", turn_id, input_id, duplicate: true };
      this.#outcomes.push({ id: input_id, tracked, event: accepted });
      this.turns.resolve(input_id, "end", { queued: false });
    }
    for (const turn of over) this.#end(turn, turn.fold.ended ?? lostEnd(turn));
  }

  /** @param {ServerEventOf<"input.accepted" | "input.queued">} event */
  #inputAnswered(event) {
    const wasOpen = this.turns.isOpen(event.turn_id);
    const turn = this.turns.bind(event.turn_id, event.input_id);
    const request = this.#outbox.answer(event.input_id, INPUTS);
    turn.queued = event.type === "input.queued";
    if (event.seq) turn.fold.apply(event);
    if (request === undefined && wasOpen) return; // the numbered copy of an answer that a resend got before
    this.turns.deliver(turn, event);
    if (request === undefined) return;
    this.#outcomes.push({ id: request.id, tracked: turn, event });
    if (turn.queued) this.turns.resolve(request.id, "defer");
    else this.turns.resolve(request.id, "end", { queued: false });
  }

  /** @param {ServerEventOf<"interrupt.result">} event */
  #interruptResult(event) {
    if (this.#outbox.answer(event.interrupt_id, ["interrupt"]) === undefined) return; // answered before
    this.turns.publish(event);
    this.#outcomes.push({ id: event.interrupt_id, tracked: null, event });
    this.turns.resolve(event.interrupt_id, OUTCOME_SIGNALS[event.outcome] ?? null);
  }

  /** @param {ServerEventOf<"session.rewound">} event */
  #rewound(event) {
    const waited = this.#outbox.answer(event.rewind_id, ["session.rewind"]) !== undefined;
    if (event.seq || waited) this.turns.publish(event);
    if (waited) this.#outcomes.push({ id: event.rewind_id, tracked: null, event });
    this.turns.resolve(event.rewind_id, "end");
  }

  /** Settles the request that the event refuses, if one waits, and publishes the event. @param {AnyEvent} event @param {string} id */
  #refused(event, id) {
    if (this.#outbox.answer(id, event.type === "error" ? null : INPUTS) !== undefined || this.#lost.has(id)) {
      const tracked = this.turns.ofInput(id);
      this.#outcomes.push({ id, tracked, event });
      this.turns.resolve(id, null);
      if (tracked !== null && tracked.turnId === null) this.turns.close(tracked);
    }
    this.turns.publish(event);
  }

  /** @param {AnyEvent} event */
  #turnEvent(event) {
    const turn = this.turns.bind(turnOf(event), event.type === "turn.started" ? event.input_id : null);
    turn.fold.apply(event);
    if (event.type === "turn.ended") {
      this.#end(turn, /** @type {ServerEventOf<"turn.ended">} */ (event));
      return;
    }
    if (event.type === "turn.started") turn.queued = false;
    else if (event.type === "tool.result" || event.type === "tool.running") this.#outbox.toolSettled(event.call_id);
    this.turns.deliver(turn, event);
  }

  /** @param {TrackedTurn} turn @param {ServerEventOf<"turn.ended">} ended */
  #end(turn, ended) {
    this.#outbox.toolsSettled(turn.fold.callIds());
    this.#report(turn, turn.finalPlayback(ended.status));
    this.turns.end(turn, ended);
    this.#outcomes.push({ id: turn.inputId, tracked: turn, event: ended });
  }
}
