/**
 * The turns that have not ended, and who is told what of them.
 *
 * An interrupt of this client, and an input that is to interrupt, mute the turns that they are meant to
 * end. The server's answer decides whether those are silenced for good or go on; see `inbox.js`.
 *
 * @module
 */

/** @import { AnyEvent, TurnState, InterruptOutcome, ServerEventOf } from "./types.js" */
/** @import { Bounds } from "./inbox.js" */

import { ServerViolation } from "./errors.js";
import { TurnFold } from "./fold.js";
import { Inbox } from "./inbox.js";
import { TrackedTurn } from "./tracked.js";

const KEPT_ENDED = 1024;

/**
 * What the answer to a request says of the turns that it was to end: they end; they end unless they
 * wait in the queue; they go on until a protected section is over, all of which is to be heard; nothing.
 *
 * @typedef {"ends" | "replaces" | "spares" | "nothing"} Verdict
 */

/** @type {Record<InterruptOutcome, Verdict>} */
export const VERDICTS = {
  interrupted: "ends",
  already_ended: "ends",
  deferred: "spares",
  unknown_turn: "ends", // it ended so long ago that the server has forgotten it
};

export class TurnTable {
  /** @type {TrackedTurn[]} */
  #open = [];
  /** @type {Map<string, TrackedTurn>} */
  #byId = new Map();
  /** @type {Set<string>} */
  #ended = new Set();
  /** @type {Set<Inbox>} */
  #subscribers = new Set();

  /** @param {Bounds} bounds How much waits for one consumer. */
  constructor(bounds) {
    this.bounds = bounds;
  }

  /** A new inbox that gets every event from now on, until `unsubscribe`. */
  subscribe() {
    const inbox = new Inbox(this.bounds);
    this.#subscribers.add(inbox);
    for (const turn of this.#open) muffle(turn, inbox);
    return inbox;
  }

  /** @param {Inbox} inbox */
  unsubscribe(inbox) {
    this.#subscribers.delete(inbox);
  }

  /** Delivers an event to every subscriber. @param {AnyEvent} event */
  tell(event) {
    for (const inbox of this.#subscribers) inbox.put(event);
  }

  // --- who runs ----------------------------------------------------------------------------------

  /** The turns that have not ended, in the order in which they were asked for. */
  get open() {
    return [...this.#open];
  }

  /**
   * Begins to track a turn.
   *
   * @param {string | null} inputId
   * @param {string | null} input
   */
  add(inputId, input = null) {
    const turn = new TrackedTurn(inputId, this.bounds, input);
    this.#open.push(turn);
    return turn;
  }

  /** The turn that runs or will run next: the oldest of those that have not ended. */
  get current() {
    return this.#open[0] ?? null;
  }

  /** The turns that an interrupting input is meant to end. */
  notQueued() {
    return this.#open.filter((turn) => !turn.queued);
  }

  /** The open turn of an input. @param {string | null | undefined} inputId */
  ofInput(inputId) {
    return inputId == null ? null : (this.#open.find((turn) => turn.inputId === inputId) ?? null);
  }

  /** Whether the turn is open under this id. @param {string} turnId */
  knows(turnId) {
    return this.#byId.has(turnId);
  }

  /**
   * The turn with this id; it is new, or that of the input.
   *
   * @param {string} turnId
   * @param {string | null} inputId
   */
  bind(turnId, inputId) {
    const known = this.#byId.get(turnId);
    if (known !== undefined) return known;
    let turn = this.ofInput(inputId);
    if (turn === null || turn.turnId !== null) turn = this.add(inputId);
    turn.fold.state.turn_id = turnId;
    this.#byId.set(turnId, turn);
    for (const inbox of this.#inboxes(turn)) muffle(turn, inbox);
    return turn;
  }

  /**
   * Goes on with a turn that an earlier page knew.
   *
   * @param {TurnState} state
   * @param {string | null} input
   */
  restore(state, input) {
    const turn = this.add(state.input_id ?? null, input);
    turn.fold = TurnFold.unfold(state);
    turn.queued = turn.turnId !== null && !turn.fold.state.started;
    if (turn.turnId !== null) this.#byId.set(turn.turnId, turn);
    return turn;
  }

  /**
   * Throws a `ServerViolation` for a turn that has ended (contract 1: one end).
   *
   * @param {string} turnId
   */
  refuseEnded(turnId) {
    if (this.#ended.has(turnId)) throw new ServerViolation(`expected nothing of turn ${turnId} after its end`);
  }

  // --- what happens ------------------------------------------------------------------------------

  /**
   * Gives an event of a turn to its consumers and to every subscriber.
   *
   * @param {TrackedTurn} turn
   * @param {AnyEvent} event
   */
  deliver(turn, event) {
    for (const inbox of this.#inboxes(turn)) inbox.put(event);
  }

  /**
   * Delivers the end of a turn and lets go of it.
   *
   * @param {TrackedTurn} turn
   * @param {ServerEventOf<"turn.ended">} ended
   */
  end(turn, ended) {
    if (turn.fold.ended !== ended) turn.fold.finish(ended);
    if (ended.status === "interrupted" && !turn.spared) {
      // Whoever interrupted it: what no one has seen yet is stale.
      for (const inbox of this.#inboxes(turn)) inbox.dropOutput(turn.fold.state.turn_id);
    }
    this.deliver(turn, ended);
    this.close(turn);
  }

  /** Lets go of a turn that ended or whose input was refused. @param {TrackedTurn} turn */
  close(turn) {
    turn.over = true;
    this.#open.splice(this.#open.indexOf(turn), 1);
    if (turn.turnId === null) return;
    this.#byId.delete(turn.turnId);
    this.#ended.add(turn.turnId);
    if (this.#ended.size > KEPT_ENDED) this.#ended.delete(/** @type {string} */ (this.#ended.values().next().value));
  }

  /**
   * Puts the server's state in place of the client's.
   *
   * @param {ServerEventOf<"snapshot">} snapshot
   * @returns {TrackedTurn[]} The turns that are over by it; the caller ends them.
   */
  replace(snapshot) {
    const over = [];
    const told = new Set();
    for (const state of snapshot.turns) {
      told.add(state.turn_id);
      const ended = state.status != null;
      if (ended && !this.knows(state.turn_id) && this.ofInput(state.input_id) === null) {
        // It was over before, or is none of ours; consumers that show every turn want it.
        const { state: full } = TurnFold.unfold(state);
        this.#replace({ type: "client.turn_snapshot", turn_id: state.turn_id, state: full });
        continue;
      }
      const turn = this.bind(state.turn_id, state.input_id ?? null);
      turn.fold = TurnFold.unfold(state);
      turn.queued = !turn.fold.state.started;
      const event = turn.snapshot();
      turn.inbox.replace(event);
      turn.listened.replace(event);
      this.#replace(event);
      if (ended) over.push(turn);
    }
    return [...over, ...this.inFlight().filter((turn) => !told.has(turn.turnId))];
  }

  /** @param {AnyEvent} event */
  #replace(event) {
    for (const inbox of this.#subscribers) inbox.replace(event);
  }

  /** The turns that the server has named and that have not ended. */
  inFlight() {
    return this.#open.filter((turn) => turn.turnId !== null);
  }

  /** Another session begins; it may use the same ids. */
  forgetEnded() {
    this.#ended.clear();
  }

  // --- interrupts --------------------------------------------------------------------------------

  /**
   * Keeps a turn's output from its consumers until the request that ends it is answered.
   *
   * @param {TrackedTurn} turn
   * @param {string} requestId
   */
  mute(turn, requestId) {
    if (turn.over) {
      const turnId = turn.turnId;
      if (turnId !== null) for (const inbox of this.#inboxes(turn)) inbox.dropOutput(turnId);
      return;
    }
    turn.muters.add(requestId);
    for (const inbox of this.#inboxes(turn)) muffle(turn, inbox);
  }

  /** Brings its inboxes in line with what a restored turn says of itself. @param {TrackedTurn} turn */
  remuffle(turn) {
    for (const inbox of this.#inboxes(turn)) muffle(turn, inbox);
  }

  /**
   * Acts on the answer to a request that muted turns.
   *
   * @param {string} requestId
   * @param {Verdict} verdict
   */
  decide(requestId, verdict) {
    for (const turn of this.#open) {
      if (!turn.muters.delete(requestId)) continue;
      if (verdict === "ends" || (verdict === "replaces" && !turn.queued)) turn.silenced = true;
      turn.spared ||= verdict === "spares";
      if (turn.turnId === null) continue;
      for (const inbox of this.#inboxes(turn)) {
        if (turn.muted) muffle(turn, inbox);
        else inbox.release(turn.turnId);
      }
    }
  }

  /** @param {TrackedTurn} turn */
  #inboxes(turn) {
    return [turn.inbox, turn.listened, ...this.#subscribers];
  }
}

/**
 * The end of a turn that the server does not know any more.
 *
 * @param {TrackedTurn} turn
 * @returns {ServerEventOf<"turn.ended">}
 */
export function lostEnd(turn) {
  const { turn_id, last_output_seq: seq } = turn.fold.state;
  return {
    type: "turn.ended",
    turn_id,
    status: "failed",
    reason: "session_lost",
    last_seq: seq,
    heard: { seq, text: turn.fold.text, audio_ms: 0 },
    retryable: true,
  };
}

/**
 * @param {TrackedTurn} turn
 * @param {Inbox} inbox
 */
function muffle(turn, inbox) {
  if (turn.turnId === null || !turn.muted) return;
  inbox.mute(turn.turnId);
  if (turn.silenced) inbox.silence(turn.turnId);
}
