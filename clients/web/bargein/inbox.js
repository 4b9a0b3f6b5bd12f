/**
 * Bounded buffer of events between the reader, which never waits, and one consumer.
 *
 * Output of a turn that the user interrupted is never rendered or played. From the moment an interrupt is sent,
 * the inbox withholds the turn's events, including those that were already waiting. After the server's answer
 * they are dropped, or delivered in order; see `delivery.js`.
 *
 * A slow consumer costs bounded memory. A full buffer is shrunk: first neighbouring deltas are joined, then the
 * whole state of the turn takes the place of its events.
 *
 * @module
 */

/** @import { AnyEvent } from "./types.js" */
/** @import { Delivery } from "./delivery.js" */

import { isDelivered } from "./delivery.js";
import { isOutput, turnOf } from "./kinds.js";

/** Capacity of an inbox: events, and characters of text, of encoded audio and of all other events as JSON, summed. */
export const BOUNDS = Object.freeze({ events: 8192, size: 32 * 1024 * 1024 });

/** @typedef {{events: number, size: number}} Bounds */
/** @typedef {{events: AnyEvent[], isDropped: boolean}} Withheld Events of a turn whose output is withheld or dropped. */

/** Buffer of events for one consumer. */
export class Inbox {
  /** @type {AnyEvent[]} */
  #ready = [];
  #head = 0;
  /** @type {Map<string, Withheld>} */
  #withheld = new Map();
  #size = 0;
  #hasGap = false;

  /**
   * @param {Bounds} bounds Capacity.
   * @param {(() => AnyEvent) | null} state Returns the state that takes the place of events when the buffer is full.
   *   Without it the oldest events are dropped and counted in a `client.dropped`.
   */
  constructor(bounds = BOUNDS, state = null) {
    this.bounds = bounds;
    this.state = state;
    /** Called when an event may be ready. @type {(() => void) | null} */
    this.notify = null;
    /**
     * The last number that the consumer took before output was dropped, for playback reports. The end of the turn
     * does not move it, nor does an event that follows dropped output.
     */
    this.takenSeq = 0;
  }

  get length() {
    return this.#ready.length - this.#head;
  }

  /** Returns the next event; undefined when none is ready. @returns {AnyEvent | undefined} */
  take() {
    if (this.#head === this.#ready.length) return undefined;
    const event = /** @type {AnyEvent} */ (this.#ready[this.#head++]);
    if (this.#head === this.#ready.length) {
      this.#ready = [];
      this.#head = 0;
    }
    this.#size -= sizeOf(event);
    if (this.#hasGap || event.type === "turn.ended") return event;
    if (event.type === "client.turn_snapshot") this.takenSeq = event.state.last_seq;
    else if (turnOf(event)) this.takenSeq = event.seq ?? 0;
    return event;
  }

  /** Adds an event; never waits and never fails. @param {AnyEvent} event */
  put(event) {
    const withheld = this.#withheld.size ? this.#withheld.get(turnOf(event)) : undefined;
    if (withheld === undefined) {
      this.#ready.push(event);
    } else if (event.type === "turn.ended") {
      // The turn ended while its output was withheld: the output is stale in any case.
      this.#withheld.delete(turnOf(event));
      this.#hasGap = true;
      this.#ready.push(...withheld.events.filter(isNoOutput), event);
      this.#recount();
    } else if (withheld.isDropped && isOutput(event)) {
      return;
    } else {
      withheld.events.push(event);
    }
    this.#size += sizeOf(event);
    if (this.#isFull()) this.#shrink();
    this.#notify();
  }

  /**
   * Follows the delivery state of a turn that has not ended; for one that has, call `dropOutput`.
   *
   * @param {string} turnId
   * @param {Delivery} delivery
   */
  setDelivery(turnId, delivery) {
    if (isDelivered(delivery)) {
      this.#release(turnId);
      return;
    }
    const withheld = this.#withhold(turnId);
    if (delivery !== "dropped") return;
    withheld.isDropped = true;
    this.#hasGap = true;
    withheld.events = withheld.events.filter(isNoOutput);
    this.#recount();
  }

  /** Drops the waiting output of a turn that has ended. @param {string} turnId */
  dropOutput(turnId) {
    this.#hasGap = true;
    this.#keep(this.#waiting().filter((event) => turnOf(event) !== turnId || !isOutput(event)));
    this.#recount();
  }

  /**
   * Puts the turn's state in place of its waiting events.
   *
   * @param {AnyEvent} snapshot
   */
  replace(snapshot) {
    const turnId = turnOf(snapshot);
    const withheld = this.#withheld.get(turnId);
    if (withheld === undefined) this.#keep(this.#waiting().filter((event) => turnOf(event) !== turnId));
    else withheld.events = [];
    this.#recount();
    this.put(snapshot);
  }

  /** @param {string} turnId */
  #withhold(turnId) {
    let withheld = this.#withheld.get(turnId);
    if (withheld === undefined) {
      const waiting = this.#waiting();
      withheld = { events: waiting.filter((event) => turnOf(event) === turnId), isDropped: false };
      this.#withheld.set(turnId, withheld);
      this.#keep(waiting.filter((event) => turnOf(event) !== turnId));
    }
    return withheld;
  }

  /** @param {string} turnId */
  #release(turnId) {
    const withheld = this.#withheld.get(turnId);
    if (withheld === undefined) return;
    this.#withheld.delete(turnId);
    this.#ready.push(...withheld.events);
    this.#notify();
  }

  #waiting() {
    return this.#ready.slice(this.#head);
  }

  /** @param {AnyEvent[]} events */
  #keep(events) {
    this.#ready = events;
    this.#head = 0;
  }

  #notify() {
    if (this.notify !== null && this.length > 0) this.notify();
  }

  #isFull() {
    let count = this.length;
    for (const withheld of this.#withheld.values()) count += withheld.events.length;
    return count > this.bounds.events || this.#size > this.bounds.size;
  }

  #shrink() {
    const lists = [this.#waiting(), ...[...this.#withheld.values()].map((withheld) => withheld.events)];
    let joined = lists.map(joinDeltas);
    // Half full at most afterwards, so that shrinking stays rare.
    const count = joined.reduce((sum, events) => sum + events.length, 0);
    if (count > this.bounds.events >> 1 || this.#size > this.bounds.size / 2) {
      joined = joined.map((events) => this.#collapse(events));
    }
    this.#keep(joined[0] ?? []);
    [...this.#withheld.values()].forEach((withheld, index) => {
      withheld.events = joined[index + 1] ?? [];
    });
    this.#recount();
  }

  /**
   * @param {AnyEvent[]} events
   * @returns {AnyEvent[]}
   */
  #collapse(events) {
    if (events.length === 0) return events;
    if (this.state !== null) return [this.state(), ...events.filter((event) => event.type === "turn.ended")];
    const cut = (events.length + 1) >> 1;
    let count = 0;
    for (const event of events.slice(0, cut)) count += event.type === "client.dropped" ? event.count : 1;
    return [{ type: "client.dropped", count }, ...events.slice(cut)];
  }

  #recount() {
    this.#size = 0;
    for (const event of this.#waiting()) this.#size += sizeOf(event);
    for (const withheld of this.#withheld.values()) for (const event of withheld.events) this.#size += sizeOf(event);
  }
}

/**
 * Joins neighbouring text and thought deltas of one lane; each keeps the last one's number.
 *
 * @param {AnyEvent[]} events
 */
export function joinDeltas(events) {
  /** @type {AnyEvent[]} */
  const joined = [];
  /** @type {AnyEvent[]} */
  let run = [];
  const flush = () => {
    const last = run.at(-1);
    if (last !== undefined) joined.push(run.length > 1 ? { ...last, text: run.map((e) => e.text).join("") } : last);
    run = [];
  };
  for (const event of events) {
    const first = run[0];
    if (first !== undefined && !isSameLane(first, event)) flush();
    if (isDelta(event)) run.push(event);
    else joined.push(event);
  }
  flush();
  return joined;
}

/** @param {AnyEvent} event */
function isDelta(event) {
  return event.type === "text.delta" || event.type === "thought";
}

/**
 * @param {AnyEvent} one
 * @param {AnyEvent} other
 */
function isSameLane(one, other) {
  return one.type === other.type && turnOf(one) === turnOf(other) && (one.source ?? "") === (other.source ?? "");
}

/** @param {AnyEvent} event */
function isNoOutput(event) {
  return !isOutput(event);
}

/** @param {AnyEvent} event */
function sizeOf(event) {
  if (isDelta(event)) return event.text.length;
  if (event.type === "audio.delta") return event.audio.length;
  // Any other event of the server may be large, too. What the client makes itself is small, but for a state, of which
  // each turn has one.
  return event.type.startsWith("client.") ? 0 : JSON.stringify(event).length;
}
