/**
 * State that a page keeps of a session, so that a reload during an answer continues it.
 *
 * @module
 */

/** @import { ClientCore } from "./core.js" */
/** @import { Resume, ResumeState } from "./types.js" */

/** Version of the format; a state of another version starts a fresh session. */
export const VERSION = 2;

/**
 * Returns the state of a session as plain data; null before it was opened.
 *
 * @param {ClientCore} core
 * @returns {ResumeState | null}
 */
export function save(core) {
  if (core.sessionId === null || core.limits === null) return null;
  return {
    version: VERSION,
    session_id: core.sessionId,
    token: core.token,
    cursor: core.cursor,
    limits: core.limits,
    ...core.kept,
    turns: core.turns.open.map((turn) => ({
      input: turn.input,
      fold: turn.fold.state,
      withheld_by: core.turns.withholding(turn),
      delivery: turn.delivery,
      reporter: turn.reporter,
    })),
  };
}

/** Bounds of requests until the server tells its own in `session.opened`. */
const CAUTIOUS = { frame_bytes: 65_536, pending: 64, queued: 8 };

/**
 * Returns the whole state to continue with; null without one, and for a state of another version.
 *
 * @param {ResumeState | Resume | null} given
 * @returns {ResumeState | null}
 */
export function current(given) {
  if (given === null) return null;
  if ("version" in given) return given.version === VERSION ? given : null;
  return completed(given);
}

/** Returns the whole state for the way into a session that began elsewhere. @param {Resume} way @returns {ResumeState} */
export function completed(way) {
  return { version: VERSION, limits: CAUTIOUS, pending: [], metadata: {}, turns: [], ...way };
}

/**
 * Continues the session of an earlier core in a new one.
 *
 * @param {ClientCore} core It has no session yet.
 * @param {ResumeState} state The result of `save`, possibly by way of JSON.
 */
export function restore(core, state) {
  core.adopt(state);
  for (const turn of state.turns) core.turns.restore(turn);
}
