/**
 * Registry of the turns that have not ended, and delivery of their events to the consumers.
 *
 * An interrupt, and an input that is to interrupt, withhold the output of the turns that they are meant to
 * end. The server's answer decides whether the output is dropped or delivered; see `delivery.js`.
 *
 * @module
 */

/** @import { AnyEvent, InterruptOutcome, SavedTurn, ServerEventOf } from "./types.js" */
/** @import { Bounds } from "./inbox.js" */
/** @import { Signal } from "./delivery.js" */

import { isDelivered } from "./delivery.js";
import { ServerViolation } from "./errors.js";
import { TurnFold } from "./fold.js";
import { Inbox } from "./inbox.js";
import { TrackedTurn } from "./tracked_turn.js";

const MAX_ENDED = 1024;
/** Maximum number of open turns: as many as a snapshot may hold. */
const MAX_OPEN = 4096;

/** @type {Record<InterruptOutcome, Signal>} */
export const OUTCOME_SIGNALS = {
  interrupted: "end",
  already_ended: "end",
  deferred: "defer",
  unknown_turn: "end", // the turn ended so long ago that the server has forgotten it
};

/** All turns between their input and their end. */
export class TurnRegistry {
  /** @type {TrackedTurn[]} */
  #open = [];
  /** @type {Map<string, TrackedTurn>} */
  #byId = new Map();
  /** @type {Set<string>} */
  #ended = new Set();
  /** By id of a request without an answer: the turns whose output it withholds. @type {Map<string, TrackedTurn[]>} */
  #withheldBy = new Map();
  /** @type {Set<Inbox>} */
  #subscribers = new Set();
  /** Ended turns of a snapshot that this client has not known. @type {TrackedTurn[]} */
  #found = [];
  /** Ids of those turns; as in Python's client, nothing is refused for them. @type {Set<string>} */
  #seen = new Set();

  /** @param {Bounds} bounds Capacity of each inbox. */
  constructor(bounds) {
    this.bounds = bounds;
  }

  /** Returns a new inbox that gets every event from now on. */
  subscribe() {
    const inbox = new Inbox(this.bounds);
    this.#subscribers.add(inbox);
    for (const { turnId, delivery } of this.#open) if (turnId !== null) inbox.setDelivery(turnId, delivery);
    return inbox;
  }

  /**
   * Delivers an event to every subscriber.
   *
   * @param {AnyEvent} event
   */
  publish(event) {
    for (const inbox of this.#subscribers) inbox.put(event);
  }

  // --- lookup ------------------------------------------------------------------------------------

  /** The turns that have not ended, in the order of their inputs. */
  get open() {
    return [...this.#open];
  }

  /** The turn that runs or will run next: the oldest one that has not ended. */
  get current() {
    return this.#open[0] ?? null;
  }

  /** Returns the turns that an interrupting input is meant to end. */
  notQueued() {
    return this.#open.filter((turn) => !turn.queued);
  }

  /** Returns the open turns that have an id. */
  inFlight() {
    return this.#open.filter((turn) => turn.turnId !== null);
  }

  /** Returns the open turns from one on; all of them when that one has ended. @param {string} turnId */
  since(turnId) {
    const first = this.#byId.get(turnId);
    return this.#open.slice(first === undefined ? 0 : this.#open.indexOf(first));
  }

  /**
   * Returns the open turn of an input.
   *
   * @param {string | null | undefined} inputId
   */
  ofInput(inputId) {
    return inputId == null ? null : (this.#open.find((turn) => turn.inputId === inputId) ?? null);
  }

  /**
   * Returns whether a turn is open under this id.
   *
   * @param {string} turnId
   */
  isOpen(turnId) {
    return this.#byId.has(turnId);
  }

  /**
   * Throws a `ServerViolation` for one turn too many.
   *
   * @param {string} turnId
   */
  checkRoom(turnId) {
    if (this.#open.length < MAX_OPEN || this.#byId.has(turnId)) return;
    throw new ServerViolation(`expected at most ${MAX_OPEN} open turns, got one more`);
  }

  /**
   * Throws a `ServerViolation` for a turn that has ended (contract 1: one end).
   *
   * @param {string} turnId
   */
  refuseEnded(turnId) {
    if (this.#ended.has(turnId)) throw new ServerViolation(`expected nothing of turn ${turnId} after its end`);
  }

  // --- life of a turn ----------------------------------------------------------------------------

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

  /**
   * Returns the turn with this id: a known one, the one of the input, or a new one.
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
    this.#applyDelivery(turn);
    return turn;
  }

  /**
   * Continues a turn of an earlier page.
   *
   * @param {SavedTurn} saved
   */
  restore({ input, fold, withheld_by: withheldBy, delivery, reporter }) {
    const turn = this.add(fold.input_id ?? null, input);
    turn.fold = TurnFold.unfold(fold);
    turn.queued = turn.turnId !== null && !turn.fold.state.started;
    if (turn.turnId !== null) this.#byId.set(turn.turnId, turn);
    for (const requestId of withheldBy) this.#addWithheld(requestId, turn);
    Object.assign(turn, { delivery, reporter });
    // The earlier page showed the output unless it was withheld or dropped.
    if (isDelivered(delivery)) turn.shownSeq = turn.fold.state.last_output_seq;
    turn.inbox.put(turn.snapshot());
    this.#applyDelivery(turn);
  }

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
   * Delivers the end of a turn and stops tracking it.
   *
   * @param {TrackedTurn} turn
   * @param {ServerEventOf<"turn.ended">} ended
   */
  end(turn, ended) {
    if (turn.fold.ended !== ended) turn.fold.finish(ended);
    // Output that no consumer has taken yet is stale, for every cause of the interrupt.
    if (ended.status === "interrupted" && turn.delivery !== "protected") this.#dropWaiting(turn);
    this.deliver(turn, ended);
    this.close(turn);
  }

  /**
   * Stops tracking a turn that ended or whose input was refused.
   *
   * @param {TrackedTurn} turn
   */
  close(turn) {
    turn.signal("close");
    this.#open.splice(this.#open.indexOf(turn), 1);
    if (turn.turnId === null) return;
    this.#byId.delete(turn.turnId);
    remember(this.#ended, turn.turnId);
  }

  /** Forgets the ids of ended turns; another session may use them again. */
  forgetEnded() {
    this.#ended.clear();
    this.#seen.clear();
  }

  // --- snapshots ---------------------------------------------------------------------------------

  /**
   * Replaces the client's state by the server's.
   *
   * @param {ServerEventOf<"snapshot">} snapshot
   * @returns {TrackedTurn[]} The turns that are over according to the snapshot; the caller ends them.
   */
  applySnapshot(snapshot) {
    const over = [];
    const included = new Set();
    this.#found = []; // a core without a session asks for none
    for (const state of snapshot.turns) {
      included.add(state.turn_id);
      const ended = state.status != null;
      if (ended && !this.isOpen(state.turn_id) && this.ofInput(state.input_id) === null) {
        // The turn ended before, or belongs to another client; a view of all turns wants it.
        const turn = this.#past(state);
        this.#replace(turn.snapshot());
        if (!state.dropped && !this.#ended.has(state.turn_id) && !this.#seen.has(state.turn_id)) {
          remember(this.#seen, state.turn_id);
          this.#found.push(turn);
        }
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
    return [...over, ...this.inFlight().filter((turn) => !included.has(turn.turnId))];
  }

  /** Returns a turn that had ended before this client came. @param {ServerEventOf<"snapshot">["turns"][number]} state */
  #past(state) {
    const turn = new TrackedTurn(state.input_id ?? null, this.bounds);
    turn.fold = TurnFold.unfold(state);
    for (const inbox of [turn.inbox, turn.listened]) {
      inbox.put(turn.snapshot());
      inbox.put(/** @type {AnyEvent} */ (turn.fold.ended));
    }
    turn.signal("close");
    return turn;
  }

  /** Returns the turns that await a handle: ended ones of a snapshot, each once, and the open ones. */
  unseen() {
    return [...this.#found.splice(0), ...this.#open];
  }

  /** @param {AnyEvent} event */
  #replace(event) {
    for (const inbox of this.#subscribers) inbox.replace(event);
  }

  // --- interrupts --------------------------------------------------------------------------------

  /**
   * Withholds a turn's output until the request that is to end it is answered. The unread output of a turn that
   * has ended is dropped for good: no answer brings it back.
   *
   * @param {TrackedTurn} turn
   * @param {string} requestId
   */
  withhold(turn, requestId) {
    if (turn.over) {
      this.#dropWaiting(turn);
      return;
    }
    this.#addWithheld(requestId, turn);
    turn.signal("withhold");
    this.#applyDelivery(turn);
  }

  /**
   * Applies the answer to a request that withheld turns.
   *
   * @param {string} requestId
   * @param {Signal | null} signal The answer's effect on the turns; null for a request that was refused.
   * @param {{queued?: boolean}} [options] Whether the effect includes turns that wait in the queue.
   */
  resolve(requestId, signal, { queued = true } = {}) {
    const turns = this.#withheldBy.get(requestId) ?? [];
    this.#withheldBy.delete(requestId);
    for (const turn of turns) {
      if (turn.over) continue;
      if (signal !== null && (queued || !turn.queued)) turn.signal(signal);
      if (this.withholding(turn).length === 0) turn.signal("release");
      this.#applyDelivery(turn);
    }
  }

  /**
   * Returns the ids of the unanswered requests that withhold a turn's output.
   *
   * @param {TrackedTurn} turn
   */
  withholding(turn) {
    return [...this.#withheldBy].filter(([, turns]) => turns.includes(turn)).map(([requestId]) => requestId);
  }

  /**
   * @param {string} requestId
   * @param {TrackedTurn} turn
   */
  #addWithheld(requestId, turn) {
    this.#withheldBy.set(requestId, [...(this.#withheldBy.get(requestId) ?? []), turn]);
  }

  /** @param {TrackedTurn} turn */
  #applyDelivery(turn) {
    if (turn.turnId === null) return;
    for (const inbox of this.#inboxes(turn)) inbox.setDelivery(turn.turnId, turn.delivery);
  }

  /** @param {TrackedTurn} turn */
  #dropWaiting(turn) {
    if (turn.turnId === null) return;
    for (const inbox of this.#inboxes(turn)) inbox.dropOutput(turn.turnId);
  }

  /** @param {TrackedTurn} turn */
  #inboxes(turn) {
    return [turn.inbox, turn.listened, ...this.#subscribers];
  }
}

/**
 * Returns the end of a turn that the server has lost.
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
    heard: { seq, text: turn.text, audio_ms: 0 },
    retryable: true,
  };
}

/** Adds an id to a set that keeps the newest. @param {Set<string>} ids @param {string} id */
function remember(ids, id) {
  ids.add(id);
  if (ids.size > MAX_ENDED) ids.delete(/** @type {string} */ (ids.values().next().value));
}
