/**
 * Reads answers aloud with the browser's speech synthesis, sentence by sentence, and tracks the position.
 *
 * Word boundaries of the speech give the position, so the playback report is exact even when the whole answer is on
 * the screen. The feature is hidden in browsers without speech synthesis.
 *
 * @module
 */

import { countCharacters } from "../bargein/index.js";

/** @import { PlaybackReport, TurnEvent } from "../bargein/types.js" */
/** @import { Speaker } from "./conversation.js" */
/** @import { TurnView } from "./turn_view.js" */

const SENTENCE_END = /[.!?…。！？]["”’)]*(?:\s|$)|\n\n/g;
const MOST_TURNS = 32;
/** Markdown characters, which are not read aloud. Each is replaced by one blank, so that positions stay the same. */
const MARKUP = /[*_`#>|~]/g;

/**
 * @typedef {object} Spoken
 * @property {TurnView} view
 * @property {string} text All that came.
 * @property {number} queued How much of it was given to the voice, in UTF-16 units, like the next one.
 * @property {number} said How much of it was said.
 * @property {boolean} isOver No more comes.
 * @property {boolean} isHushed
 */

/** Whether the browser has speech synthesis. */
export const canRead = typeof speechSynthesis === "object" && typeof SpeechSynthesisUtterance === "function";

/** @implements {Speaker} */
export class Reading {
  /** @type {Map<string, Spoken>} */
  #turns = new Map();
  /** @type {string | null} */
  #now = null;
  #waiting = 0;

  /**
   * @param {object} owner
   * @param {(turnId: string, report: PlaybackReport) => void} owner.report
   * @param {() => void} owner.changed
   */
  constructor(owner) {
    this.owner = owner;
    this.isOn = false;
  }

  get isSpeaking() {
    return this.#now !== null;
  }

  /** Whether there is a voice; some browsers load voices late, see `voiceschanged`. */
  get isAble() {
    return canRead && speechSynthesis.getVoices().length > 0;
  }

  /** @param {boolean} on */
  turn(on) {
    this.isOn = on;
    if (!on) this.hush();
    this.owner.changed();
  }

  /** @param {string} turnId @param {TurnEvent} event @param {TurnView} view */
  take(turnId, event, view) {
    if (event.type === "turn.started" && this.isOn) {
      this.#turns.set(turnId, { view, text: "", queued: 0, said: 0, isOver: false, isHushed: false });
      if (this.#turns.size > MOST_TURNS) this.#turns.delete(/** @type {string} */ (this.#turns.keys().next().value));
    }
    const turn = this.#turns.get(turnId);
    if (turn === undefined || turn.isHushed) return;
    if (event.type === "text.delta" && !event.source) {
      turn.text += event.text;
      this.#speak(turnId, turn);
    } else if (event.type === "turn.held" || event.type === "turn.resumed") {
      if (turnId === this.#now) this.pause(event.type === "turn.held");
    } else if (event.type === "turn.ended") {
      turn.isOver = true;
      if (event.status === "interrupted") this.hush();
      else this.#speak(turnId, turn);
    }
  }

  /** @param {boolean} isHeld */
  pause(isHeld) {
    if (this.#now === null) return;
    if (isHeld) speechSynthesis.pause();
    else speechSynthesis.resume();
  }

  /** Stops immediately and reports the position. */
  hush() {
    if (this.#now === null) return;
    const turnId = this.#now;
    this.#now = null;
    this.#waiting = 0;
    speechSynthesis.cancel();
    speechSynthesis.resume(); // a voice that was paused would stay so
    for (const turn of this.#turns.values()) turn.isHushed = true;
    this.#report(turnId);
    const turn = this.#turns.get(turnId);
    turn?.view.cutLate(turn.text.slice(0, turn.said));
    this.owner.changed();
  }

  /** @param {string} turnId @returns {PlaybackReport | null} */
  played(turnId) {
    const turn = this.#turns.get(turnId);
    return turn === undefined ? null : { chars: countCharacters(turn.text.slice(0, turn.said)) };
  }

  /** Speaks the complete sentences. @param {string} turnId @param {Spoken} turn */
  #speak(turnId, turn) {
    const rest = turn.text.slice(turn.queued);
    const last = [...rest.matchAll(SENTENCE_END)].at(-1);
    const until = turn.isOver ? rest.length : last === undefined ? 0 : last.index + last[0].length;
    if (until === 0 || rest.slice(0, until).trim() === "") return;
    const from = turn.queued;
    turn.queued += until;
    const utterance = new SpeechSynthesisUtterance(rest.slice(0, until).replace(MARKUP, " "));
    utterance.lang = document.documentElement.lang;
    this.#now = turnId;
    this.#waiting += 1;
    /** @param {number} to */
    const said = (to) => {
      if (turn.isHushed) return;
      turn.said = Math.max(turn.said, from + to);
      this.#report(turnId);
    };
    utterance.onboundary = ({ charIndex, charLength }) => said(charIndex + (charLength ?? 0));
    const done = () => {
      if (turn.isHushed) return;
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#now = null;
      this.owner.changed();
    };
    utterance.onerror = done;
    utterance.onend = () => {
      said(until);
      done();
    };
    speechSynthesis.speak(utterance);
    this.owner.changed();
  }

  /** @param {string} turnId */
  #report(turnId) {
    const played = this.played(turnId);
    if (played !== null) this.owner.report(turnId, played);
  }
}
