/** @import { ClientEvent, Input, Interrupt, JsonObject, Limits, PendingEvent, Played, ToolAnswer } from "./types.js" */
/** @import { Bounds } from "./inbox.js" */
/** @import { Phase } from "./phases.js" */
/** @import { TrackedTurn } from "./tracked.js" */

import { TooLarge, TooManyPending } from "./errors.js";
import { countCharacters, sizeOnWire } from "./kinds.js";
import { Outbox } from "./outbox.js";
import { TurnTable } from "./turntable.js";

const MAX_INPUT_CHARS = 65_536;
const MAX_OUTGOING = 1024;
export const MAX_PENDING = 64;

/** The half of the core that the application asks; the other half is `ClientCore`. */
export class Asking {
  /** @param {Bounds} bounds How much waits for one consumer. */
  constructor(bounds) {
    /** How far the line is. @type {Phase} */
    this.phase = "offline";
    /** What the server accepts; null before the first `session.opened`. @type {Limits | null} */
    this.limits = null;
    /** The turns that have not ended. */
    this.turns = new TurnTable(bounds);
    /** What must reach the server although lines break. */
    this.outbox = new Outbox();
    /** What was not handed to the line yet. @type {ClientEvent[]} */
    this.toSend = [];
  }

  // --- for the application -------------------------------------------------------------------------

  /**
   * Asks for a turn. An input that is meant to interrupt mutes what runs (contract 2); when that is not
   * what the server does with it, what was kept is delivered.
   *
   * Throws `TooManyPending` and `TooLarge`; then nothing was sent.
   *
   * @param {Input} event
   */
  sendInput(event) {
    const characters = countCharacters(event.text);
    if (characters > MAX_INPUT_CHARS) throw new TooLarge(characters, MAX_INPUT_CHARS, "characters");
    this.#admit(event);
    if (event.on_busy == null || event.on_busy === "interrupt") {
      for (const turn of this.turns.notQueued()) {
        const played = turn.taken();
        if (played !== null && turn.turnId !== null) {
          turn.implied = true;
          this.report(turn.turnId, played);
        }
        this.turns.mute(turn, event.id);
      }
    }
    if (this.isReady) this.toSend.push(event);
    return this.turns.add(event.id, event.text);
  }

  /**
   * Ends a turn and mutes it from now on; the core fills in which turn and what was played.
   *
   * @param {Interrupt} event
   * @param {TrackedTurn} turn
   */
  interrupt(event, turn) {
    const which = turn.turnId === null ? { input_id: turn.inputId } : { turn_id: turn.turnId };
    event = withoutNulls({ ...event, ...which });
    if (event.played == null) {
      // What still arrives is not shown, so a live socket's word on what was heard is too much.
      const played = turn.taken();
      turn.implied ||= played !== null;
      if (played !== null) event = { ...event, played };
    } else {
      turn.reported = true;
    }
    this.#admit(event);
    if (this.isReady) this.toSend.push(event);
    this.turns.mute(turn, event.id);
  }

  /** Stops a turn's output. Offline it is dropped: a hold is about now. @param {TrackedTurn} turn */
  hold(turn) {
    if (turn.turnId !== null && this.isReady) this.#emit({ type: "turn.hold", turn_id: turn.turnId });
  }

  /** Lets a held turn go on. Offline it is dropped: an undecided hold ends by itself. @param {TrackedTurn} turn */
  resume(turn) {
    if (turn.turnId !== null && this.isReady) this.#emit({ type: "turn.resume", turn_id: turn.turnId });
  }

  /**
   * Reports what was heard of a turn so far; nothing can have been heard of one without an id.
   *
   * @param {TrackedTurn} turn
   * @param {Played} played
   */
  playback(turn, played) {
    if (turn.turnId === null) return;
    turn.reported = true;
    this.report(turn.turnId, played);
  }

  /** Merges application parameters into the session's metadata; a null removes its key. @param {JsonObject} metadata */
  update(metadata) {
    /** @type {ClientEvent} */
    const event = { type: "session.update", metadata };
    this.#checkSize(event);
    if (this.isReady) this.#emit(event);
    this.outbox.merge(metadata);
  }

  /** Gives a call what it waits for. @param {ToolAnswer} event */
  answerTool(event) {
    this.#checkSize(event);
    if (this.isReady) this.#emit(event);
    this.outbox.keepTool(event);
  }

  /** Asks the server for a sign of life; offline it is dropped. @param {string} id */
  ping(id) {
    if (this.isReady) this.#emit({ type: "ping", id });
  }

  /** Ends the session for good; does nothing while there is no line. */
  closeSession() {
    if (this.phase !== "offline") this.toSend.push({ type: "session.close" });
  }

  // --- sending ---------------------------------------------------------------------------------------

  get isReady() {
    return this.phase === "live" || this.phase === "replaying";
  }

  /** @param {ClientEvent} event */
  #emit(event) {
    if (this.toSend.length >= MAX_OUTGOING) throw new TooManyPending(MAX_OUTGOING);
    this.toSend.push(event);
  }

  /** @param {ClientEvent} event */
  #checkSize(event) {
    const size = sizeOnWire(event);
    if (this.limits !== null && size > this.limits.frame_bytes) {
      throw new TooLarge(size, this.limits.frame_bytes, "bytes");
    }
  }

  /** Keeps a request until it is answered; the caller sends it, on this line or on the next. @param {PendingEvent} event */
  #admit(event) {
    this.#checkSize(event);
    this.outbox.add(event, Math.min(MAX_PENDING, this.limits?.pending ?? MAX_PENDING));
  }

  /**
   * @param {string} turnId
   * @param {Played} played
   */
  report(turnId, played) {
    const known = this.outbox.report(turnId, played);
    if (!this.isReady) return;
    this.toSend = this.toSend.filter((e) => e.type !== "playback" || e.turn_id !== turnId);
    this.toSend.push(known);
  }
}

/**
 * @template {object} T
 * @param {T} fields
 * @returns {any}
 */
export function withoutNulls(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));
}
