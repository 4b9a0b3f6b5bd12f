/**
 * Kinds of events (protocol/README.md sections 10 and 11), and the length of their text.
 *
 * @module
 */

/** @import { AnyEvent } from "./types.js" */

const UNNUMBERED = new Set([
  "session.opened", "replay.done", "snapshot", "heartbeat", "pong", "goaway", "error", "input.rejected",
  "interrupt.result",
]);
const OUTPUT = new Set([
  "status", "thought", "text.delta", "audio.delta", "tool.call", "tool.call.delta", "tool.confirm",
  "tool.running", "tool.result", "step.ended", "progress", "data",
]);
const NUMBERED = new Set([
  ...OUTPUT, "input.accepted", "input.queued", "turn.started", "turn.held", "turn.resumed", "turn.ended",
  "session.rewound", "speech.started", "speech.stopped", "transcript.delta", "transcript.done",
]);

/** Returns whether this version defines the type; of an unknown one only the number counts. @param {string} type */
export function isKnown(type) {
  return NUMBERED.has(type) || UNNUMBERED.has(type);
}

/** Returns whether the event is numbered. @param {AnyEvent} event */
export function isNumbered(event) {
  return !UNNUMBERED.has(event.type) && !event.type.startsWith("client.");
}

/** Returns whether the event is rendered: output of an agent, or the state in its place. @param {AnyEvent} event */
export function isOutput(event) {
  return OUTPUT.has(event.type) || event.type === "client.turn_snapshot" || isUnknown(event);
}

/** Returns whether a listener for this name gets output to render; `*` is every event. @param {string} type */
export function isRendered(type) {
  return type === "*" || OUTPUT.has(type);
}

/** Returns whether the event's type is unknown to this version. @param {AnyEvent} event */
export function isUnknown(event) {
  return !isKnown(event.type) && !event.type.startsWith("client.");
}

/**
 * Returns the id of the turn that the event belongs to, "" for none. An `interrupt.result` names a turn but is
 * not one of its events.
 *
 * @param {AnyEvent} event
 * @returns {string}
 */
export function turnOf(event) {
  return isNumbered(event) || event.type === "client.turn_snapshot" ? (event.turn_id ?? "") : "";
}

/**
 * Returns the number of characters of a text: Unicode code points, as everywhere in the protocol.
 *
 * @param {string} text
 */
export function countCharacters(text) {
  let count = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    if ((text.charCodeAt(i) & 0xfc00) === 0xd800 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) count--;
  }
  return count;
}

/**
 * Returns the first `count` characters of a text.
 *
 * @param {string} text
 * @param {number} count
 */
export function firstCharacters(text, count) {
  if (text.length <= count) return text;
  let end = 0;
  for (; count > 0 && end < text.length; count--) end += (text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1;
  return text.slice(0, end);
}

const encoder = new TextEncoder();

/** Returns the number of bytes of an event on the wire. @param {unknown} event */
export function sizeOnWire(event) {
  return sizeOf(JSON.stringify(event));
}

/** Returns the number of bytes of a text. @param {string} text */
export function sizeOf(text) {
  return encoder.encode(text).length;
}

/**
 * Returns the fields that are neither null nor undefined.
 *
 * @template {object} T
 * @param {T} fields
 * @returns {any}
 */
export function withoutNulls(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));
}
