/**
 * Numbers of a session's durable events: duplicates and gaps.
 *
 * @module
 */

/** @import { AnyEvent } from "./types.js" */

import { ServerViolation } from "./errors.js";
import { gapBefore } from "./phases.js";

/** Position of the client in the session's stream of numbered events. */
export class SequenceTracker {
  /** The last number that was taken. */
  lastSeq = 0;
  /** Number of events that came twice and were dropped. */
  duplicates = 0;
  /** @type {number | null} */
  #gapAfter = null;
  /** @type {number | null} */
  #gapAtResume = null;

  /** Notes that a new channel is open; its resume may fill the gap of the channel before. */
  beginChannel() {
    this.#gapAtResume = this.#gapAfter;
  }

  /**
   * Returns the number of events that are missing before this one for good. Throws a `ServerViolation` when
   * events are missing and no resume has asked for them yet.
   *
   * @param {AnyEvent} event
   */
  countMissing(event) {
    const missing = gapBefore(event, this.lastSeq);
    if (missing === 0) return 0;
    if (this.#gapAtResume !== this.lastSeq) {
      this.#gapAfter = this.lastSeq;
      throw new ServerViolation(`expected number ${this.lastSeq + 1}, ${missing} are missing`);
    }
    this.#gapAfter = this.#gapAtResume = null;
    return missing;
  }

  /**
   * Returns whether a number was taken before, and counts it if so.
   *
   * @param {number} seq
   */
  isDuplicate(seq) {
    if (seq > this.lastSeq) return false;
    this.duplicates += 1;
    return true;
  }
}
