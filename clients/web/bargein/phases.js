/**
 * Phases of a connection, and the table of the events that each phase allows. Every server event is checked
 * against the table before it changes any state.
 *
 *     phase       session.opened          replay.done, snapshot   numbered            others
 *     offline     dropped                 dropped                 dropped             dropped
 *     opening     to live or replaying    violation               violation           taken
 *     replaying   violation               to live; taken          taken, without hole taken
 *     live        violation               violation               taken, without hole taken
 *
 * Events that arrive after the channel is gone are dropped. Numbers are contiguous: a number at or below the last
 * one is a harmless duplicate, one too far ahead leaves a gap; see `gapBefore`.
 *
 * @module
 */

/** @import { AnyEvent } from "./types.js" */

import { ServerViolation } from "./errors.js";
import { isNumbered, isUnknown } from "./kinds.js";

/** Phase of a connection. @typedef {"offline" | "opening" | "replaying" | "live"} Phase */

/**
 * Checks an event against the table; throws a `ServerViolation` when the event is out of place.
 *
 * @param {AnyEvent} event
 * @param {Phase} phase
 * @param {number} lastSeq The last number that was taken.
 * @param {string} epoch Epoch of that number.
 */
export function check(event, phase, lastSeq, epoch) {
  if (event.type === "session.opened") {
    if (phase !== "opening") violation("expected one session.opened on a connection, got a second one");
    if (event.resumed && event.epoch !== epoch) violation("expected a resumed session to keep its epoch");
  } else if (event.type === "replay.done" || event.type === "snapshot") {
    if (phase !== "replaying") violation("expected a replay only after a resume");
    if (event.type === "snapshot") checkSnapshot(event, lastSeq);
  } else if (isNumbered(event)) {
    if (phase === "opening") violation("expected session.opened before the first numbered event");
    checkNumber(event);
  }
}

/**
 * Returns the number of missing events between the last one taken and this one.
 *
 * @param {AnyEvent} event
 * @param {number} lastSeq
 */
export function gapBefore(event, lastSeq) {
  if (event.type === "replay.done") return Math.max(0, event.through - lastSeq);
  return isNumbered(event) ? Math.max(0, (event.seq ?? 0) - lastSeq - 1) : 0;
}

/** @param {AnyEvent} event @param {number} lastSeq */
function checkSnapshot({ through, turns }, lastSeq) {
  if (through < lastSeq) violation(`expected a snapshot of ${lastSeq} or later, got ${through}`);
  const turnIds = new Set(turns.map((/** @type {{turn_id: string}} */ state) => state.turn_id));
  if (turnIds.has("") || turnIds.size < turns.length) violation("expected a snapshot with each turn once, under its id");
}

/** @param {AnyEvent} event */
function checkNumber(event) {
  if (isUnknown(event)) return;
  const ofTurn = !/^(session|speech|transcript)\./.test(event.type);
  if (ofTurn && !event.turn_id) violation("expected the id of a turn, got none");
  const isAnswerAgain = event.duplicate && ["input.accepted", "input.queued", "session.rewound"].includes(event.type);
  if (!event.seq && !isAnswerAgain) violation("expected a number, got none");
}

/**
 * @param {string} message
 * @returns {never}
 */
function violation(message) {
  throw new ServerViolation(message);
}
