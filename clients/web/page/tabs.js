/**
 * The tabs of one conversation. Only one may drive it, and each connection has a new secret; so a tab that
 * is to take over asks the one that drives for what it keeps, over a channel that only pages of this origin
 * hear.
 *
 * @module
 */

/** @import { Kept } from "./store.js" */

const ANSWER_MS = 1500;

export class Tabs {
  #channel = new BroadcastChannel("bargein.page");
  /** @type {((kept: Kept) => void) | null} */
  #waiting = null;

  /** @param {() => Kept | null} keeps What this tab keeps, when it drives a conversation. */
  constructor(keeps) {
    this.#channel.addEventListener("message", ({ data }) => {
      if (data?.type === "ask") {
        const kept = keeps();
        if (kept?.resume?.session_id === data.session_id) this.#channel.postMessage({ type: "give", kept });
      } else if (data?.type === "give") {
        this.#waiting?.(data.kept);
      }
    });
  }

  /** What the tab that drives a session keeps; null when none answers. @param {string} sessionId @returns {Promise<Kept | null>} */
  ask(sessionId) {
    return new Promise((resolve) => {
      this.#waiting = resolve;
      setTimeout(() => resolve(null), ANSWER_MS);
      this.#channel.postMessage({ type: "ask", session_id: sessionId });
    });
  }
}
