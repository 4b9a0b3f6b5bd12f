/**
 * The client without a socket: events go in, and what to send and what to deliver come out.
 *
 * No I/O, no clock and no chance: ids are given to it, and whoever owns the line calls
 *
 *     attach()      when a line is up; then sends what `outgoing()` gives, and again after each call
 *     receive()     for each event that comes; a ServerViolation means: drop the line
 *     detach()      when the line is gone
 *
 * Events for the application wait in inboxes: those of each turn, and one of each `turns.subscribe()`.
 * Answers to requests and ends of turns wait in `outcomes()`. What may come when is a table in `phases.js`.
 *
 * @module
 */

/** @import { AnyEvent, ClientInfo, Cursor, Outcome, ResumeState, ServerEventOf, SessionOpen } from "./types.js" */
/** @import { TrackedTurn } from "./tracked.js" */

import { Asking, MAX_PENDING, withoutNulls } from "./asking.js";
import { row } from "./codes.js";
import { ServerViolation } from "./errors.js";
import { BOUNDS } from "./inbox.js";
import { isNumbered, turnOf } from "./kinds.js";
import { check, gapBefore } from "./phases.js";
import { lostEnd, VERDICTS } from "./turntable.js";

/** One session as its client sees it. */
export class ClientCore extends Asking {
  /** @type {SessionOpen} */
  #opening;
  /** @type {Set<string>} */
  #inOpening = new Set();
  /** @type {Set<string>} */
  #lost = new Set();
  /** @type {number | null} */
  #gapAfter = null;
  /** @type {number | null} */
  #gapResumed = null;
  /** @type {Outcome[]} */
  #outcomes = [];

  /**
   * @param {object} [options]
   * @param {string | null} [options.auth] A credential for `session.open`.
   * @param {ClientInfo | null} [options.client] What the client calls itself.
    * @param {import("./inbox.js").Bounds} [options.bounds] How much waits for one consumer.
   */
  constructor({ auth = null, client = null, bounds = BOUNDS } = {}) {
    super(bounds);
    this.#opening = withoutNulls({ type: "session.open", auth, client });
    /** The session's public name; null before the first `session.opened`. @type {string | null} */
    this.sessionId = null;
    /** What resumes the session: a secret. */
    this.token = "";
    this.epoch = "";
    /** The last number that was taken. */
    this.lastSeq = 0;
    /** How many events came twice and were dropped. */
    this.duplicates = 0;
    /** The server is silent for this long at most; 0 when not known. */
    this.heartbeatMs = 0;
    /** When the server asked to be called again; null when it did not. @type {number | null} */
    this.reconnectAfterMs = null;
  }

  /**
   * Takes over the session that an earlier core had, for the next `attach`; its turns are restored apart.
   *
   * @param {ResumeState} state
   */
  adopt(state) {
    this.sessionId = state.session_id;
    this.token = state.token;
    this.limits = state.limits;
    this.epoch = state.cursor.epoch;
    this.lastSeq = state.cursor.seq;
    for (const request of state.pending) this.outbox.add(request, MAX_PENDING);
    if (Object.keys(state.metadata).length > 0) this.outbox.merge(state.metadata);
  }

  // --- for the owner of the line -------------------------------------------------------------------

  /**
   * Begins on a line that is up; `session.open` is the first event to send.
   *
   * @param {string | null} auth A credential for this line alone, in place of the usual one.
   */
  attach(auth = null) {
    let opening = auth === null ? this.#opening : { ...this.#opening, auth };
    this.#inOpening = new Set();
    if (this.sessionId !== null && this.limits !== null) {
      opening = { ...opening, resume: { session_id: this.sessionId, token: this.token, cursor: this.cursor } };
      const pending = this.outbox.pending(opening, this.limits.frame_bytes);
      if (pending.length > 0) opening = { ...opening, pending };
      this.#inOpening = new Set(pending.map((request) => request.id));
    }
    this.#lost = new Set();
    this.#gapResumed = this.#gapAfter;
    this.reconnectAfterMs = null;
    this.phase = "opening";
    this.toSend = [opening];
  }

  /** The line is gone. What matters and may not have arrived is sent again on the next one. */
  detach() {
    this.phase = "offline";
    this.toSend = [];
  }

  /**
   * Takes an event in.
   *
   * Throws a `ServerViolation` for one that does not fit, and nothing has changed. Drop the line,
   * `detach()`, and open another: the session is resumed after the last event that fitted.
   *
   * @param {AnyEvent} event
   * @returns {boolean} False for what had come before, or when there is no line.
   */
  receive(event) {
    if (this.phase === "offline") return false;
    check(event, this.phase, this.lastSeq, this.epoch);
    const gap = gapBefore(event, this.lastSeq);
    if (gap > 0) this.#passGap(gap);
    if (isNumbered(event) && event.seq) {
      if (event.seq <= this.lastSeq) {
        this.duplicates += 1;
        return false;
      }
      this.turns.refuseEnded(turnOf(event));
      this.lastSeq = event.seq;
    }
    this.#handle(event);
    return true;
  }

  /** What to send now, in order, once. */
  outgoing() {
    const events = this.toSend;
    this.toSend = [];
    return events;
  }

  /** The next event to send; undefined when there is none. */
  nextOutgoing() {
    return this.toSend.shift();
  }

  /** Answers to requests, and ends of turns. */
  outcomes() {
    const outcomes = this.#outcomes;
    this.#outcomes = [];
    return outcomes;
  }

  /** Where the session is, for a resume. @returns {Cursor} */
  get cursor() {
    return { epoch: this.epoch, seq: this.lastSeq };
  }

  /** The requests that wait for an answer. */
  get pending() {
    return [...this.outbox.unanswered.values()];
  }

  /** The application parameters that were given so far. */
  get metadata() {
    return this.outbox.metadata;
  }

  // --- receiving -------------------------------------------------------------------------------------

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
        return this.turns.tell(event);
      case "input.accepted":
      case "input.queued":
        return this.#inputAnswered(/** @type {ServerEventOf<"input.accepted" | "input.queued">} */ (event));
      case "interrupt.result":
        return this.#interruptResult(/** @type {ServerEventOf<"interrupt.result">} */ (event));
      case "input.rejected":
        return this.#refused(event, event.input_id);
      case "error":
        if (event.code === "unknown_call") this.outbox.toolSettled(event.ref_id ?? "");
        if (!this.#lost.has(event.ref_id)) this.#refused(event, event.ref_id ?? "");
        return;
      default:
        if (turnOf(event) && event.seq) this.#turnEvent(event);
        else this.turns.tell(event);
    }
  }

  /** Lets a gap pass that a resume did not fill; a new one is a lost line. @param {number} count */
  #passGap(count) {
    if (this.#gapResumed !== this.lastSeq) {
      this.#gapAfter = this.lastSeq;
      throw new ServerViolation(`expected number ${this.lastSeq + 1}, ${count} are missing`);
    }
    this.#gapAfter = this.#gapResumed = null;
    this.turns.tell({ type: "client.lost", count });
  }

  /** @param {ServerEventOf<"session.opened">} event */
  #opened(event) {
    if (!event.resumed && this.sessionId !== null) this.#lose(event.reason || "unknown_session");
    this.sessionId = event.session_id;
    this.token = event.token;
    this.epoch = event.epoch;
    this.limits = event.limits;
    this.heartbeatMs = event.heartbeat_ms;
    this.phase = event.resumed ? "replaying" : "live";
    if (!event.resumed) this.lastSeq = 0;
    this.toSend.push(...this.outbox.afterOpen(this.#inOpening, event.limits.frame_bytes));
  }

  /** The resume was refused: ends everything here that has no other end any more. @param {string} reason */
  #lose(reason) {
    this.turns.tell({ type: "client.restarted", reason });
    for (const turn of this.turns.inFlight()) this.#end(turn, lostEnd(turn));
    this.turns.forgetEnded();
    const { name: code, reason: message } = row("session_lost");
    for (const { id } of this.outbox.lose()) {
      // The server says the same of those that it saw; its copies are dropped, see `#handle`.
      this.#lost.add(id);
      this.#refused({ type: "error", code, message, ref_id: id, retryable: true }, id);
    }
  }

  /** @param {AnyEvent} event */
  #replayDone(event) {
    this.lastSeq = Math.max(this.lastSeq, event.through);
    this.phase = "live";
    this.turns.tell({ type: "client.resumed" });
  }

  /** @param {ServerEventOf<"snapshot">} event */
  #snapshot(event) {
    this.lastSeq = event.through;
    const over = this.turns.replace(event);
    for (const { turn_id, input_id } of event.turns) {
      if (input_id == null || this.outbox.answer(input_id) === undefined) continue;
      const tracked = this.turns.ofInput(input_id);
      /** @type {AnyEvent} */
      const accepted = { type: "input.accepted", turn_id, input_id, duplicate: true };
      this.#outcomes.push({ id: input_id, tracked, event: accepted });
      this.turns.decide(input_id, "replaces");
    }
    for (const turn of over) this.#end(turn, turn.fold.ended ?? lostEnd(turn));
  }

  /** @param {ServerEventOf<"input.accepted" | "input.queued">} event */
  #inputAnswered(event) {
    const known = this.turns.knows(event.turn_id);
    const turn = this.turns.bind(event.turn_id, event.input_id);
    const request = this.outbox.answer(event.input_id);
    turn.queued = event.type === "input.queued";
    if (event.seq) turn.fold.apply(event);
    if (request === undefined && known) return; // the numbered copy of what came first as the answer to a resend
    this.turns.deliver(turn, event);
    if (request === undefined) return;
    this.#outcomes.push({ id: request.id, tracked: turn, event });
    this.turns.decide(request.id, turn.queued ? "spares" : "replaces");
  }

  /** @param {ServerEventOf<"interrupt.result">} event */
  #interruptResult(event) {
    if (this.outbox.answer(event.interrupt_id) === undefined) return; // answered before
    this.turns.tell(event);
    this.#outcomes.push({ id: event.interrupt_id, tracked: null, event });
    this.turns.decide(event.interrupt_id, VERDICTS[event.outcome] ?? "nothing");
  }

  /**
   * Settles the request that the event refuses, if one waits, and tells everyone.
   *
   * @param {AnyEvent} event
   * @param {string} id
   */
  #refused(event, id) {
    if (this.outbox.answer(id) !== undefined || this.#lost.has(id)) {
      const tracked = this.turns.ofInput(id);
      this.#outcomes.push({ id, tracked, event });
      this.turns.decide(id, "nothing");
      if (tracked !== null && tracked.turnId === null) this.turns.close(tracked);
    }
    this.turns.tell(event);
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
    else if (event.type === "tool.result" || event.type === "tool.running") this.outbox.toolSettled(event.call_id);
    this.turns.deliver(turn, event);
  }

  /**
   * @param {TrackedTurn} turn
   * @param {ServerEventOf<"turn.ended">} ended
   */
  #end(turn, ended) {
    for (const callId of turn.fold.callIds()) this.outbox.toolSettled(callId);
    if (turn.implied && !turn.muted) {
      // It was spoken for when an interrupt was sent, and then it went on after all.
      const whole = turn.spared || ended.status !== "interrupted";
      const seq = whole ? turn.fold.state.last_output_seq : turn.takenSeq;
      this.report(turn.fold.state.turn_id, { seq });
    }
    this.turns.end(turn, ended);
    this.#outcomes.push({ id: turn.inputId, tracked: turn, event: ended });
  }
}
