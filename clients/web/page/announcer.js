/**
 * Tells screen readers what happens, sparingly: finished sentences, every few seconds at most, and ends.
 *
 * @module
 */

import { el } from "./dom.js";

/** The least time between two announcements of an answer, in milliseconds. */
const PAUSE_MS = 2500;
const SENTENCE_END = /[.!?…:;。！？]["”’)]*\s|\n/g;

export class Announcer {
  /** @type {import("./voice.js").Voice | null} */
  #voice = null;
  #told = 0;
  #toldAt = 0;

  /** @param {HTMLElement} region A live region that nobody sees. */
  constructor(region) {
    this.region = region;
  }

  /** Says something now. @param {string} words */
  say(words) {
    if (words.trim() === "") return;
    this.region.append(el("p", {}, words));
    while (this.region.children.length > 4) this.region.firstChild?.remove();
  }

  /** Follows what a voice says; called after each drawing. @param {import("./voice.js").Voice} voice */
  follow(voice) {
    if (voice !== this.#voice) {
      this.#voice = voice;
      this.#told = 0;
      this.#toldAt = performance.now();
    }
    if (performance.now() - this.#toldAt < PAUSE_MS) return;
    const fresh = voice.said.slice(this.#told);
    const ends = [...fresh.matchAll(SENTENCE_END)];
    const last = ends.at(-1);
    if (last !== undefined) this.#tell(fresh.slice(0, last.index + last[0].length));
  }

  /** Says the rest of an answer, and how it ended. @param {import("./voice.js").Voice} voice @param {string} how @param {boolean} cut */
  end(voice, how, cut) {
    if (!cut) this.say(voice.said.slice(voice === this.#voice ? this.#told : 0));
    this.say(how);
    this.#voice = null;
    this.#told = 0;
  }

  /** What was to be read is stale: the user has interrupted it. */
  hush() {
    this.region.replaceChildren();
  }

  /** @param {string} text */
  #tell(text) {
    this.#told += text.length;
    this.#toldAt = performance.now();
    this.say(text);
  }
}
