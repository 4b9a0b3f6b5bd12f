/**
 * Conversations that the server keeps: their list, and the way into one of them. It may have begun anywhere: on a page,
 * through a route of another protocol, or in another program.
 *
 * @module
 */

/** @import { Conversation, ConversationOptions, OpenedConversation } from "./types.js" */

import { CODES } from "./codes.js";
import { ConnectError } from "./errors.js";
import { sessionUrl, streamUrl } from "./transports.js";

const MAX_LISTED = 100;
const TIMEOUT_MS = 10_000;

/**
 * Returns the user's conversations, the last used first. Rejects with a `ConnectError`; a server without authentication
 * lists nothing.
 *
 * @param {string} url The server's URL, as for `connect`.
 * @param {ConversationOptions & {limit?: number}} [options]
 * @returns {Promise<Conversation[]>}
 */
export async function listConversations(url, { limit = MAX_LISTED, ...options } = {}) {
  return (await ask("GET", `${streamUrl(sessionUrl(url))}?limit=${limit}`, options)).sessions;
}

/**
 * Returns the way into a conversation, with which `connect(url, { resume })` goes on with it, and the user's inputs, which no
 * event of the server repeats. Another connection that drives it goes on until then.
 *
 * Rejects with a `ConnectError`; its code is `session_lost` for a session that does not exist or is another user's.
 *
 * @param {string} url The server's URL, as for `connect`.
 * @param {string} sessionId
 * @param {ConversationOptions & {sessionToken?: string}} [options] `sessionToken` is the session's own token, which takes the
 *   place of a credential on a server without authentication.
 * @returns {Promise<OpenedConversation>}
 */
export async function openConversation(url, sessionId, { sessionToken, ...options } = {}) {
  /** @type {Record<string, string>} */
  const headers = sessionToken === undefined ? {} : { "Bargein-Session-Token": sessionToken };
  const at = `${streamUrl(sessionUrl(url))}/${encodeURIComponent(sessionId)}/token`;
  const { session_id, token, epoch, inputs } = await ask("POST", at, options, headers);
  return { resume: { session_id, token, cursor: { epoch, seq: 0 } }, inputs };
}

/**
 * @param {string} method
 * @param {string} url
 * @param {ConversationOptions} options
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
async function ask(method, url, { token }, headers = {}) {
  if (token !== undefined) headers = { ...headers, Authorization: `Bearer ${token}` };
  let answer;
  try {
    answer = await fetch(url, { method, headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new ConnectError(url, "no server answers at this address");
  }
  /** @type {any} */
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  const why = body?.message || `the server answered with HTTP status ${answer.status}`;
  throw new ConnectError(url, why, CODES.find((row) => row.name === body?.code) ?? null);
}
