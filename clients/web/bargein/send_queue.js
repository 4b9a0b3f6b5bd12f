/**
 * Queue of the events that wait for the current channel.
 *
 * @module
 */

/** @import { ClientEvent, PlaybackEvent } from "./types.js" */

import { TooManyPending } from "./errors.js";

const MAX_EVENTS = 1024;

/** Events to send on the current channel, in order. */
export class SendQueue {
  /** @type {ClientEvent[]} */
  #events = [];

  /**
   * Replaces the content.
   *
   * @param {ClientEvent[]} [events]
   */
  reset(events = []) {
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

  /**
   * Appends events whose number is bounded elsewhere.
   *
   * @param {...ClientEvent} events
   */
  append(...events) {
    this.#events.push(...events);
  }

  /**
   * Appends an event. Throws `TooManyPending` when the queue is full; then nothing has changed.
   *
   * @param {ClientEvent} event
   */
  appendBounded(event) {
    if (this.#events.length >= MAX_EVENTS) throw new TooManyPending(MAX_EVENTS);
    this.#events.push(event);
  }

  /**
   * Appends a playback report in place of an older one for the same turn.
   *
   * @param {PlaybackEvent} report
   */
  appendPlayback(report) {
    this.#events = this.#events.filter((event) => event.type !== "playback" || event.turn_id !== report.turn_id);
    this.#events.push(report);
  }
}
