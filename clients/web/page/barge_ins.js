/**
 * Follows what the user says over an answer: the first sound, the pause of the answer, the verdict, the words, and the
 * first output of the next answer. The inspector draws the last one.
 *
 * @module
 */

import { INPUT } from "./microphone.js";

/** @import { BargeIn } from "./types.js" */

/** Sound whose time is remembered: speech is reported a few frames after it began. */
const MOST_PIECES = 250;
const BYTES_PER_SAMPLE = 2;

export class BargeIns {
  /** Ends of the pieces that were sent, on the audio clock, with their times. @type {{ms: number, at: number}[]} */
  #pieces = [];
  #sentMs = 0;
  /** When the user began to speak, and when the server had noticed it. @type {{onsetAt: number, noticedAt: number} | null} */
  #speech = null;
  /** @type {BargeIn | null} */
  #last = null;

  /** @param {(bargeIn: BargeIn) => void} drawn */
  constructor(drawn) {
    this.drawn = drawn;
  }

  /** Takes an event that was sent. @param {Record<string, any>} event */
  sent(event) {
    if (event.type !== "input.audio") return;
    this.#sentMs += (bytesOf(event.audio) * 1000) / (BYTES_PER_SAMPLE * INPUT.rate);
    this.#pieces.push({ ms: this.#sentMs, at: performance.now() });
    if (this.#pieces.length > MOST_PIECES) this.#pieces.shift();
  }

  /** Takes an event that was received. @param {Record<string, any>} event */
  received(event) {
    const now = performance.now();
    if (event.type === "session.opened" && !event.resumed) {
      this.#pieces = [];
      this.#sentMs = 0;
      this.#speech = this.#last = null;
    } else if (event.type === "speech.started") {
      this.#speech = { onsetAt: this.#timeOf(event.at_ms, now), noticedAt: now };
    } else if (event.type === "turn.held" && this.#speech !== null) {
      const none = { decidedAt: null, verdict: null, understoodAt: null, answeredAt: null };
      this.#last = { turnId: event.turn_id, ...this.#speech, heldAt: now, ...none };
      this.#speech = null;
      this.drawn(this.#last);
    } else if (this.#last !== null) {
      this.#follow(this.#last, event, now);
    }
  }

  /** @param {BargeIn} last @param {Record<string, any>} event @param {number} now */
  #follow(last, event, now) {
    const isItsTurn = event.turn_id === last.turnId;
    const step = (/** @type {Partial<BargeIn>} */ news) => this.drawn(Object.assign(last, news));
    if (isItsTurn && event.type === "turn.resumed" && last.verdict === null) {
      step({ decidedAt: now, verdict: "resumed" });
    } else if (isItsTurn && event.type === "turn.ended" && last.verdict !== "ended") {
      // A resume is provisional: more words may end the answer after it.
      if (last.verdict === null || event.reason === "barge_in") step({ decidedAt: now, verdict: "ended" });
    } else if (last.verdict === "ended" && last.answeredAt === null) {
      if (event.type === "transcript.done" && last.understoodAt === null) step({ understoodAt: now });
      else if (!isItsTurn && (event.type === "audio.delta" || event.type === "text.delta")) step({ answeredAt: now });
    }
  }

  /**
   * Returns when a sound was recorded. After a lost line the page may have sent more than the server counts, so a time
   * that is not known counts as the present.
   *
   * @param {number} ms @param {number} now
   */
  #timeOf(ms, now) {
    const piece = this.#pieces.find((one) => one.ms >= ms);
    return piece === undefined ? now : piece.at - (piece.ms - ms);
  }
}

/** @param {string} base64 */
function bytesOf(base64) {
  return (base64.length * 3) / 4 - (base64.endsWith("==") ? 2 : base64.endsWith("=") ? 1 : 0);
}
