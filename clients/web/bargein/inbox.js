/**
 * A bounded buffer of events between the reader, which never waits, and one consumer.
 *
 * Two rules live here. What a user interrupted is never rendered or played: from the moment an interrupt
 * is sent, the turn's events are set aside, also those that already waited in the buffer. The
 * server's answer decides: dropped when the turn is over, given out when the interrupt was deferred or
 * refused. And a slow consumer costs bounded memory: a buffer that runs full is shrunk, first by joining
 * neighbouring deltas, then by putting the turn's whole state in place of its events.
 *
 * @module
 */

/** @import { AnyEvent } from "./types.js" */

import { isOutput, turnOf } from "./kinds.js";

/** How much an inbox holds: events, and characters of text and of encoded audio, summed. */
export const BOUNDS = Object.freeze({ events: 8192, size: 32 * 1024 * 1024 });

/** @typedef {{events: number, size: number}} Bounds */
/** @typedef {{events: AnyEvent[], silenced: boolean}} Aside A turn whose interrupt has no answer yet, or is silenced. */

export class Inbox {
  /** @type {AnyEvent[]} */
  #ready = [];
  #head = 0;
  /** @type {Map<string, Aside>} */
  #aside = new Map();
  #size = 0;

  /**
   * @param {Bounds} bounds How much it holds.
   * @param {(() => AnyEvent) | null} state Gives the state that takes the place of events when the buffer
   *   is full. Without it the oldest events are dropped and counted in a `client.dropped`.
   */
  constructor(bounds = BOUNDS, state = null) {
    this.bounds = bounds;
    this.state = state;
    /** Called when there may be something to take. @type {(() => void) | null} */
    this.notify = null;
    /** The last number that the consumer has taken. */
    this.takenSeq = 0;
  }

  get length() {
    return this.#ready.length - this.#head;
  }

  /** The next event; undefined when there is none now. @returns {AnyEvent | undefined} */
  take() {
    if (this.#head === this.#ready.length) return undefined;
    const event = /** @type {AnyEvent} */ (this.#ready[this.#head++]);
    if (this.#head === this.#ready.length) {
      this.#ready = [];
      this.#head = 0;
    }
    this.#size -= sizeOf(event);
    if (event.type === "client.turn_snapshot") this.takenSeq = event.state.last_seq;
    else if (turnOf(event)) this.takenSeq = event.seq ?? 0;
    return event;
  }

  /** Adds an event; never waits and never fails. @param {AnyEvent} event */
  put(event) {
    const aside = this.#aside.size ? this.#aside.get(turnOf(event)) : undefined;
    if (aside === undefined) {
      this.#ready.push(event);
    } else if (event.type === "turn.ended") {
      // The turn is over while it was muted: its output is stale, whatever ended it.
      this.#aside.delete(turnOf(event));
      this.#ready.push(...aside.events.filter(isNoOutput), event);
      this.#recount();
    } else if (aside.silenced && isOutput(event)) {
      return;
    } else {
      aside.events.push(event);
    }
    this.#size += sizeOf(event);
    if (this.#isFull()) this.#shrink();
    this.#tell();
  }

  /**
   * Sets the turn's events aside, also those that wait already, until `silence` or `release`. The turn
   * has not ended yet; for one that has, call `dropOutput`.
   *
   * @param {string} turnId
   */
  mute(turnId) {
    if (this.#aside.has(turnId)) return;
    const waiting = this.#waiting();
    this.#aside.set(turnId, { events: waiting.filter((event) => turnOf(event) === turnId), silenced: false });
    this.#keep(waiting.filter((event) => turnOf(event) !== turnId));
  }

  /**
   * Drops a muted turn's output for good: what was set aside and what still comes.
   *
   * @param {string} turnId
   */
  silence(turnId) {
    const aside = this.#aside.get(turnId);
    if (aside === undefined) return;
    aside.silenced = true;
    aside.events = aside.events.filter(isNoOutput);
    this.#recount();
  }

  /** Drops what waits of the output of a turn that has ended. @param {string} turnId */
  dropOutput(turnId) {
    this.#keep(this.#waiting().filter((event) => turnOf(event) !== turnId || !isOutput(event)));
    this.#recount();
  }

  /** Gives out what was set aside: the turn goes on after all. @param {string} turnId */
  release(turnId) {
    const aside = this.#aside.get(turnId);
    if (aside === undefined) return;
    this.#aside.delete(turnId);
    this.#ready.push(...aside.events);
    this.#tell();
  }

  /**
   * Puts the turn's state in place of those of its events that wait.
   *
   * @param {AnyEvent} snapshot
   */
  replace(snapshot) {
    const turnId = turnOf(snapshot);
    const aside = this.#aside.get(turnId);
    if (aside === undefined) this.#keep(this.#waiting().filter((event) => turnOf(event) !== turnId));
    else aside.events = [];
    this.#recount();
    this.put(snapshot);
  }

  #waiting() {
    return this.#ready.slice(this.#head);
  }

  /** @param {AnyEvent[]} events */
  #keep(events) {
    this.#ready = events;
    this.#head = 0;
  }

  #tell() {
    if (this.notify !== null && this.length > 0) this.notify();
  }

  #isFull() {
    let count = this.length;
    for (const aside of this.#aside.values()) count += aside.events.length;
    return count > this.bounds.events || this.#size > this.bounds.size;
  }

  #shrink() {
    const lists = [this.#waiting(), ...[...this.#aside.values()].map((aside) => aside.events)];
    let joined = lists.map(joinDeltas);
    // Half full at most afterwards, so that shrinking stays rare.
    const count = joined.reduce((sum, events) => sum + events.length, 0);
    if (count > this.bounds.events >> 1 || this.#size > this.bounds.size / 2) {
      joined = joined.map((events) => this.#collapse(events));
    }
    this.#keep(joined[0] ?? []);
    [...this.#aside.values()].forEach((aside, index) => {
      aside.events = joined[index + 1] ?? [];
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
    for (const aside of this.#aside.values()) for (const event of aside.events) this.#size += sizeOf(event);
  }
}

/**
 * Joins neighbouring text and thought deltas of one voice; each keeps the last one's number.
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
    if (first !== undefined && !isSameVoice(first, event)) flush();
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
function isSameVoice(one, other) {
  return one.type === other.type && turnOf(one) === turnOf(other) && (one.source ?? "") === (other.source ?? "");
}

/** @param {AnyEvent} event */
function isNoOutput(event) {
  return !isOutput(event);
}

/** @param {AnyEvent} event */
function sizeOf(event) {
  if (isDelta(event)) return event.text.length;
  return event.type === "audio.delta" ? event.audio.length : 0;
}
