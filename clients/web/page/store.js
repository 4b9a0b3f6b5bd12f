/**
 * State of a tab that survives a reload: the session's resume state, and the events of the displayed exchanges.
 *
 * The state is in `sessionStorage`, which no other tab and no other site can read, because it holds a secret.
 * Neighbouring pieces of text are joined, audio is left out, and only the end of a long conversation is kept.
 *
 * @module
 */

/** @import { Shown } from "./files.js" */
/** @import { ResumeState, TurnEvent } from "../bargein/types.js" */

const KEY = "bargein.page.v1";
/** The largest state, in UTF-16 units; browsers allow about five million per site. */
const MOST_KEPT = 2_000_000;
const MOST_EVENTS = 4000;

/**
 * @typedef {object} Kept
 * @property {ResumeState | null} resume
 * @property {Journal[]} turns
 * @property {string} draft What stood in the input.
 */

/** The events of one exchange. */
export class Journal {
  /** @param {string | null} input @param {string | null} inputId @param {Shown[]} [files] */
  constructor(input, inputId, files = []) {
    /** The files of the message, without their content. */
    this.files = files.map(({ name, mediaType, thumb }) => ({ name, mediaType, thumb }));
    this.input = input;
    this.inputId = inputId;
    /** When a page of this tab began to show it, in milliseconds since 1970; null when that was elsewhere. @type {number | null} */
    this.begunAt = null;
    /** @type {TurnEvent[]} */
    this.events = [];
  }

  /** Adds an event. @param {TurnEvent} event */
  add(event) {
    if (event.type === "client.turn_snapshot") {
      if (this.events.length === 0 && this.input === null) this.begunAt = null;
      this.events = [];
    }
    const last = /** @type {any} */ (this.events.at(-1));
    const e = /** @type {any} */ (event);
    const joins = last?.type === e.type && last.source === e.source && last.call_id === e.call_id;
    if (joins && (e.type === "text.delta" || e.type === "thought")) last.text += e.text;
    else if (joins && e.type === "tool.call.delta") last.arguments += e.arguments;
    else this.events.push({ ...e, ...(e.type === "audio.delta" ? { audio: "" } : {}) });
    if (this.events.length > MOST_EVENTS) this.events.splice(1, 1); // the first one tells whose turn it is
  }
}

/** Stores the state. @param {Kept} kept */
export function keep(kept) {
  let turns = kept.turns;
  for (let room = MOST_KEPT; turns.length >= 0; turns = turns.slice(Math.ceil(turns.length / 2))) {
    const text = JSON.stringify({ ...kept, turns });
    try {
      if (text.length <= room) return sessionStorage.setItem(KEY, text);
    } catch {
      room = text.length / 2; // the browser gives less than usual
    }
    if (turns.length === 0) return;
  }
}

/** Returns the stored state; null when there is none. @returns {Kept | null} */
export function kept() {
  try {
    const value = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (value === null || !Array.isArray(value.turns)) return null;
    const turns = value.turns.map((/** @type {Journal} */ j) => Object.assign(new Journal(j.input, j.inputId), j));
    return { resume: value.resume ?? null, turns, draft: String(value.draft ?? "") };
  } catch {
    return null; // no storage, or not ours
  }
}

/** Deletes the stored state. */
export function forget() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // no storage, so nothing to delete
  }
}
