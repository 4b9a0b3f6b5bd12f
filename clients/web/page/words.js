/**
 * What the page says when something went wrong, and what to do about it.
 *
 * @module
 */

/** @import { Ended } from "./types.js" */

/** @type {Record<string, string>} */
const FAILURES = {
  agent_error: "The agent made a mistake. Try again, or ask in another way.",
  timeout: "The answer took too long. Try again.",
  no_output: "The agent said nothing for too long. Try again.",
  upstream: "The model behind the agent failed. Try again in a moment.",
  overload: "The server has no room at the moment. Try again in a moment.",
  shutdown: "The server was stopped. It may be back in a moment: try again.",
  session_lost: "The server forgot this conversation, so the answer is lost. Send it again.",
};

/** @type {Record<string, string>} */
const REFUSALS = {
  busy: "The agent is busy. Wait for it, or stop it, and send this again.",
  queue_full: "Too many messages wait already. Send this again in a moment.",
  shutting_down: "The server is shutting down. Send this again when it is back.",
  session_lost: "The server forgot this conversation before it got this. Send it again.",
  too_large: "This message is too long. Send it in parts.",
};

/** @type {Record<string, string>} */
const CLOSES = {
  unauthorized: "This server asks for a token.",
  forbidden: "This server does not take connections from this address.",
  closed: "The conversation is closed.",
  session_lost: "The server forgot this conversation.",
};

/** Why a turn failed. @param {string} reason */
export function failure(reason) {
  return FAILURES[reason] ?? "The answer failed. Try again.";
}

/** Why an input was refused. @param {string} code */
export function refusal(code) {
  return REFUSALS[code] ?? "The server did not take this message. Send it again.";
}

/** Why a connection is over. @param {string} code */
export function closing(code) {
  return CLOSES[code] ?? "The connection was refused. Reload the page to try again.";
}

/** How many words a text has. @param {string} text */
export function countWords(text) {
  return text.trim() === "" ? 0 : text.trim().split(/\s+/).length;
}

/** A number of words. @param {string} text */
export function inWords(text) {
  const count = countWords(text);
  return count === 1 ? "1 word" : `${count} words`;
}

/**
 * How a turn ended, for the line below it.
 *
 * @param {Ended} ended
 * @param {string} heard
 * @param {number | null} tookMs From the user's request to the end, where that was seen.
 */
export function outcome({ status, reason }, heard, tookMs) {
  if (status === "completed") return inWords(heard);
  if (status === "failed") return failure(reason);
  const after = heard.trim() === "" ? "before the first word" : `after ${inWords(heard)}`;
  const took = tookMs === null ? "" : ` · ${Math.round(tookMs)} ms`;
  if (reason === "superseded") return `You went on ${after}${took}`;
  if (reason === "client_gone") return `Stopped ${after}: you were away for too long`;
  if (reason === "session_closed") return `Stopped ${after}: the conversation was closed`;
  return `Stopped ${after}${took}`;
}

/** A place in the queue. @param {number} position */
export function place(position) {
  if (position <= 1) return "Waiting: next in line";
  return `Waiting: ${position} before it`;
}
