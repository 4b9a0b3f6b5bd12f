/**
 * Announcements for screen readers: complete sentences, at most every few seconds, and ends of turns.
 *
 * @module
 */

import { el } from "./dom.js";
import { spoken } from "./text/markdown.js";

/** The shortest time between two announcements of an answer, in milliseconds. */
const PAUSE_MS = 2500;
/** The longest announcement, in characters. */
const MOST_SAID = 1500;
const SENTENCE_END = /[.!?…:;。！？]["”’)]*\s|\n/g;

export class Announcer {
  /** @type {import("./lane_view.js").LaneView | null} */
  #lane = null;
  #told = 0;
  #toldAt = 0;

  /** @param {HTMLElement} region A live region that nobody sees. */
  constructor(region) {
    this.region = region;
  }

  /** Announces a text now. @param {string} words */
  say(words) {
    const said = spoken(words);
    if (said === "") return;
    const all = said.length <= MOST_SAID ? said : `${said.slice(0, MOST_SAID)}… The rest is on the page.`;
    this.region.append(el("p", {}, all));
    while (this.region.children.length > 4) this.region.firstChild?.remove();
  }

  /** Announces new text of a lane; called after each rendering. @param {import("./lane_view.js").LaneView} lane */
  follow(lane) {
    if (lane !== this.#lane) {
      this.#lane = lane;
      this.#told = 0;
      this.#toldAt = performance.now();
    }
    if (performance.now() - this.#toldAt < PAUSE_MS) return;
    const fresh = lane.said.slice(this.#told);
    const ends = [...fresh.matchAll(SENTENCE_END)];
    const last = ends.at(-1);
    if (last !== undefined) this.#tell(fresh.slice(0, last.index + last[0].length));
  }

  /** Announces the rest of an answer, and how it ended. @param {import("./lane_view.js").LaneView} lane @param {string} how @param {boolean} cut */
  end(lane, how, cut) {
    if (!cut) this.say(lane.said.slice(lane === this.#lane ? this.#told : 0));
    this.say(how);
    this.#lane = null;
    this.#told = 0;
  }

  /** Drops the waiting text, because the user has interrupted the answer. */
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
