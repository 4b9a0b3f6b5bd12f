/**
 * Queue of the events that wait for the current channel.
 *
 * @module
 */

/** @import { ClientEvent, PendingEvent, PlaybackEvent } from "./types.js" */

import { TooManyPending } from "./errors.js";

const MAX_EVENTS = 1024;

/** Events to send on the current channel, in order. */
export class SendQueue {
  /**
   * Whether the session is open on the channel. Until then events of the application are not taken: the outbox keeps
   * those that must not be lost.
   */
  accepts = false;
  /** @type {ClientEvent[]} */
  #events = [];

  /**
   * Replaces the content, for another channel or none.
   *
   * @param {ClientEvent[]} [events]
   */
  reset(events = []) {
    this.accepts = false;
    this.#events = events;
  }

  /** Returns the events in order and empties the queue. */
  drain() {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** Removes and returns the next event; undefined when there is none. */
  next() {
    return this.#events.shift();
  }

  /** Number of waiting pieces of sound. */
  get audioEvents() {
    return this.#events.reduce((count, event) => count + Number(event.type === "input.audio"), 0);
  }

  /**
   * Appends events of the library itself.
   *
   * @param {...ClientEvent} events
   */
  append(...events) {
    this.#events.push(...events);
  }

  /** Appends a request, whose number the outbox bounds. @param {PendingEvent} event */
  appendRequest(event) {
    if (this.accepts) this.#events.push(event);
  }

  /**
   * Appends an event. Throws `TooManyPending` when the queue is full; then nothing has changed.
   *
   * @param {ClientEvent} event
   */
  appendBounded(event) {
    if (!this.accepts) return;
    if (this.#events.length >= MAX_EVENTS) throw new TooManyPending(MAX_EVENTS);
    this.#events.push(event);
  }

  /**
   * Appends a playback report in place of an older one for the same turn.
   *
   * @param {PlaybackEvent} report
   */
  appendPlayback(report) {
    if (!this.accepts) return;
    this.#events = this.#events.filter((event) => event.type !== "playback" || event.turn_id !== report.turn_id);
    this.#events.push(report);
  }
}
