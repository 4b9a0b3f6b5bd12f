/**
 * Texts for errors and ends, each with advice.
 *
 * @module
 */

/** @import { Ended } from "./types.js" */

import { NO_SLOT } from "../bargein/stream_slots.js";

/** @type {Record<string, string>} */
const FAILURES = {
  agent_error: "The agent made a mistake. Try again, or ask in another way.",
  timeout: "The answer took too long. Try again.",
  no_output: "The agent gave no answer for too long. Try again.",
  upstream: "The model behind the agent failed. Try again in a moment.",
  overload: "The server is full. Try again in a moment.",
  shutdown: "The server was stopped. Try again in a moment.",
  session_lost: "The server lost this conversation and the answer. Send the message again.",
};

/** @type {Record<string, string>} Ends of answers that are complete as far as the agent is concerned. */
const CUT_SHORT = {
  length: "cut off: the model reached its limit",
  content_filter: "cut off by a content filter",
  refusal: "the model declined",
};

/** @type {Record<string, string>} */
const REFUSALS = {
  busy: "The agent is busy. Wait for it, or stop it, and send this again.",
  queue_full: "Too many messages are waiting. Send this again in a moment.",
  shutting_down: "The server is shutting down. Send this again when it is back.",
  session_lost: "The server lost this conversation before it received the message. Send it again.",
  at_capacity: "The server has no room for this now. Wait a moment and send it again, or start a new conversation.",
  unsupported_attachment: "The agent takes no files of this type. Send the message without them.",
  too_large: "This message is too long. Send it in parts.",
};

/** @type {Record<string, string>} */
const CLOSES = {
  unauthorized: "This server asks for a token. Enter the one that you were given.",
  wrong_token: "This token is not accepted. Check it, and enter it again.",
  forbidden: "This server does not accept pages from this address. To allow it, start it with --origin and the address.",
  closed: "The conversation is closed. Begin a new one.",
  session_lost: "The server lost this conversation. Begin a new one.",
  overloaded: "The server is full. Try again in a moment.",
  share_used: "You have too many conversations or requests open on this server. Close one, or try again in a moment.",
  flooded: "This browser sent too much at once. Try again in a moment.",
  internal: "The server failed. Try again in a moment.",
  restart: "The server restarts. Try again in a moment.",
  going_away: "The connection could not be restored. Check the network, and try again.",
  abnormal: "The connection could not be restored. Check the network, and try again.",
  no_status: "The connection could not be restored. Check the network, and try again.",
};

/** Returns the text for a failed turn. @param {string} reason */
export function failure(reason) {
  return FAILURES[reason] ?? "The answer failed. Try again.";
}

/** Returns the text for a refused input. @param {string} code */
export function refusal(code) {
  return REFUSALS[code] ?? "The server refused this message. Send it again.";
}

/** Returns the text for a connection that is over. @param {string} code */
export function closing(code) {
  return CLOSES[code] ?? "The connection was refused. Try again in a moment.";
}

/** Returns the text for a connection that is being restored. @param {string} code */
export function interruption(code) {
  if (code === "restart" || code === "going_away") return "The server restarts. The conversation goes on when it is back.";
  if (code === "overloaded") return "The server is full. The conversation goes on when there is room.";
  return "The connection is lost. The conversation goes on when it is back.";
}

/** Returns the text for a connection that could not be made. @param {string} why */
export function unreachable(why) {
  if (why === NO_SLOT) return "Too many tabs: this network allows no WebSockets, and only four tabs at a time without. Close another one.";
  return "The server cannot be reached. Is it running?";
}

/** Returns the number of words of a text. @param {string} text */
export function countWords(text) {
  return text.trim() === "" ? 0 : text.trim().split(/\s+/).length;
}

/** Returns the number of words of a text, as text. @param {string} text */
export function inWords(text) {
  const count = countWords(text);
  return count === 1 ? "1 word" : `${count} words`;
}

/**
 * Returns the text below a turn about its end.
 *
 * @param {Ended} ended
 * @param {string} heard
 * @param {number | null} tookMs Time from the user's request to the end; null if it was not measured.
 */
export function outcome({ status, reason }, heard, tookMs) {
  if (status === "completed") {
    const why = Object.hasOwn(CUT_SHORT, reason) ? CUT_SHORT[reason] : "";
    return why === "" ? inWords(heard) : `${inWords(heard)} · ${why}`;
  }
  if (status === "failed") return failure(reason);
  const after = heard.trim() === "" ? "before the first word" : `after ${inWords(heard)}`;
  const took = tookMs === null ? "" : ` · cut in ${Math.round(tookMs)} ms`;
  if (reason === "superseded") return `You went on ${after}${took}`;
  if (reason === "client_gone") return `Stopped ${after}: you were away for too long`;
  if (reason === "session_closed") return `Stopped ${after}: the conversation was closed`;
  return `Stopped ${after}${took}`;
}

/** Returns the text for a position in the queue. @param {number} position */
export function place(position) {
  if (position <= 1) return "Waiting: next in line";
  return `Waiting: ${position} before it`;
}
