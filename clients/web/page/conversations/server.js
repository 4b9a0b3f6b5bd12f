/**
 * Conversations that the server has stored for the user: its list, a token for one of them, their names and their deletion.
 *
 * @module
 */

import { completed } from "../../bargein/saved.js";

/** @import { ResumeState } from "../../bargein/types.js" */

/**
 * @typedef {object} Listed
 * @property {string} session_id
 * @property {string} title
 * @property {boolean} named Whether the user chose the title.
 * @property {number} turns
 * @property {number} used_at_ms
 */

/** @typedef {{resume: ResumeState, inputs: {input_id: string, text: string, files: string[]}[]}} Opened */

export class ServerConversations {
  /** @param {() => string | undefined} credential */
  constructor(credential) {
    this.credential = credential;
  }

  /** Returns the user's conversations, the last used first; null where the server lists none. @returns {Promise<Listed[] | null>} */
  async list() {
    const answer = await this.#fetch("v1/sessions?limit=100");
    return answer?.ok ? (await answer.json()).sessions : null;
  }

  /** Returns the state that continues a stored conversation; null when the server refuses it. @param {string} id @returns {Promise<Opened | null>} */
  async open(id) {
    const answer = await this.#fetch(`${path(id)}/token`, { method: "POST" });
    if (!answer?.ok) return null;
    const { session_id, token, epoch, inputs } = await answer.json();
    return { resume: completed({ session_id, token, cursor: { epoch, seq: 0 } }), inputs };
  }

  /** Names a conversation; returns whether the server has the name. @param {string} id @param {string} title */
  async rename(id, title) {
    const headers = { "Content-Type": "application/json" };
    const answer = await this.#fetch(path(id), { method: "PATCH", headers, body: JSON.stringify({ title }) });
    return answer?.ok === true;
  }

  /** Deletes a conversation; returns whether the server has it no longer. @param {string} id @param {string} [token] */
  async remove(id, token) {
    /** @type {Record<string, string>} */
    const headers = token === undefined ? {} : { "Bargein-Session-Token": token };
    const answer = await this.#fetch(path(id), { method: "DELETE", headers });
    return answer !== null && (answer.ok || answer.status === 404);
  }

  /** @param {string} path @param {RequestInit & {headers?: Record<string, string>}} [request] */
  async #fetch(path, request = {}) {
    const credential = this.credential();
    const headers = { ...request.headers, ...(credential === undefined ? {} : { Authorization: `Bearer ${credential}` }) };
    try {
      return await fetch(path, { ...request, headers });
    } catch {
      return null; // no network: the list shows the conversations of this browser
    }
  }
}

/** @param {string} id */
function path(id) {
  return `v1/sessions/${encodeURIComponent(id)}`;
}
