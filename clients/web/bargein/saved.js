/**
 * What a page keeps of a session so that a reload in the middle of an answer goes on with it.
 *
 * @module
 */

/** @import { ClientCore } from "./core.js" */
/** @import { ResumeState } from "./types.js" */

/**
 * The state of a session as plain data; null before it was opened.
 *
 * @param {ClientCore} core
 * @returns {ResumeState | null}
 */
export function save(core) {
  if (core.sessionId === null || core.limits === null) return null;
  return {
    version: 1,
    session_id: core.sessionId,
    token: core.token,
    cursor: core.cursor,
    limits: core.limits,
    pending: core.pending,
    metadata: core.metadata,
    turns: core.turns.open.map((turn) => ({
      input: turn.input,
      fold: turn.fold.state,
      muters: [...turn.muters],
      silenced: turn.silenced,
      spared: turn.spared,
      reported: turn.reported,
    })),
  };
}

/**
 * Lets a new core go on where another one was.
 *
 * @param {ClientCore} core It has no session yet.
 * @param {ResumeState} state What `save` gave, maybe by way of JSON.
 */
export function restore(core, state) {
  core.adopt(state);
  for (const { input, fold, muters, silenced, spared, reported } of state.turns) {
    const turn = core.turns.restore(fold, input);
    turn.muters = new Set(muters);
    Object.assign(turn, { silenced, spared, reported });
    // The earlier page showed it, as far as it was not to be silent.
    if (!turn.muted) turn.shownSeq = turn.fold.state.last_output_seq;
    turn.inbox.put(turn.snapshot());
    core.turns.remuffle(turn);
  }
}
