/**
 * Tabs with the same conversation. Only one tab drives it, and each connection has a new secret. A tab that takes over
 * requests the state from the driving tab, over a channel that is limited to pages of this origin.
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

  /** Returns the state of the tab that drives a session; null without an answer. @param {string} sessionId @returns {Promise<Kept | null>} */
  ask(sessionId) {
    return new Promise((resolve) => {
      this.#waiting = resolve;
      setTimeout(() => resolve(null), ANSWER_MS);
      this.#channel.postMessage({ type: "ask", session_id: sessionId });
    });
  }
}
