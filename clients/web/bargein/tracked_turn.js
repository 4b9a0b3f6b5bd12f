/** @import { AnyEvent, Played, ServerEventOf } from "./types.js" */
/** @import { Bounds } from "./inbox.js" */
/** @import { Delivery, Signal } from "./delivery.js" */

import { isDelivered, transition } from "./delivery.js";
import { TurnFold } from "./fold.js";
import { Inbox } from "./inbox.js";

/**
 * Origin of the reports on how much of a turn the user received.
 *
 * - `none`: no report yet.
 * - `client`: the core reported the events that the consumers took, in an interrupt.
 * - `application`: the application reports for itself; the core does not add to that.
 *
 * @typedef {"none" | "client" | "application"} PlaybackReporter
 */

/** State that the client keeps of one turn, from the moment its input is given to the core. */
export class TrackedTurn {
  /**
   * @param {string | null} inputId The input; null for a turn that this client did not ask for.
   * @param {Bounds} bounds Capacity of each inbox.
   * @param {string | null} input Text of the input; null when this client does not have it.
   */
  constructor(inputId, bounds, input = null) {
    this.inputId = inputId;
    this.input = input;
    /** All events of the turn, folded; includes output that was never delivered. */
    this.fold = new TurnFold("", inputId);
    /** Events that the iterator has not taken yet. */
    this.inbox = new Inbox(bounds, () => this.snapshot());
    /** Events that the listeners have not got yet. */
    this.listened = new Inbox(bounds, () => this.snapshot());
    /** Whether the turn waits behind another one. */
    this.queued = false;
    /** Whether output reaches the consumers. @type {Delivery} */
    this.delivery = "delivered";
    /** Origin of the playback reports. @type {PlaybackReporter} */
    this.reporter = "none";
    /** The last number that listeners got while at least one of them rendered output. */
    this.shownSeq = 0;
    /** Returns whether a consumer renders the output: events that it did not get were not heard. @type {() => boolean} */
    this.isRendered = () => false;
  }

  /** Id given by the server; null until the input is answered. */
  get turnId() {
    return this.fold.state.turn_id || null;
  }

  /** Text of the main lane so far. */
  get text() {
    return this.fold.text;
  }

  /** The `turn.ended` event; null while the turn runs. */
  get ended() {
    return this.fold.ended;
  }

  /** Whether the turn ended or its input was refused. */
  get over() {
    return this.delivery === "ended";
  }

  /**
   * Changes the delivery state.
   *
   * @param {Signal} signal
   */
  signal(signal) {
    this.delivery = transition(this.delivery, signal);
  }

  /** Returns the whole state of the turn. @returns {AnyEvent} */
  snapshot() {
    return {
      type: "client.turn_snapshot",
      turn_id: this.fold.state.turn_id,
      state: structuredClone(this.fold.state),
    };
  }

  /** The last number that the consumers have taken: the iterator if one reads, else the listeners. */
  get takenSeq() {
    return this.inbox.takenSeq || this.shownSeq;
  }

  /**
   * Returns how much the consumers have taken; null when that is no measure of playback. Audio is taken long
   * before it is played. An application that sends its own reports, or does not read the turn, has better
   * information.
   *
   * @returns {Played | null}
   */
  taken() {
    const hasAudio = Object.values(this.fold.state.lanes).some((lane) => lane.audio.length > 0);
    const isMeasured = this.takenSeq > 0 || this.isRendered();
    return this.reporter === "application" || hasAudio || !isMeasured ? null : { seq: this.takenSeq };
  }
  /**
   * Returns the report of the core for the application, with a request that is to end the turn; null for none.
   *
   * @returns {Played | null}
   */
  impliedPlayback() {
    const played = this.taken();
    if (played !== null) this.reporter = "client";
    return played;
  }

  /**
   * Returns the report at the end of a turn that went on after all, of which an interrupt reported less; null for
   * none.
   *
   * @param {ServerEventOf<"turn.ended">["status"]} status
   * @returns {Played | null}
   */
  finalPlayback(status) {
    if (this.reporter !== "client" || !isDelivered(this.delivery)) return null;
    const isWhole = this.delivery === "protected" || status !== "interrupted";
    return { seq: isWhole ? this.fold.state.last_output_seq : this.takenSeq };
  }
}
