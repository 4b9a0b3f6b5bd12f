/**
 * The protocol's table of codes (protocol/README.md section 12), with the client's action for each: `retry` the
 * same later, `resume` on a new connection, or `stop`.
 *
 * @typedef {"retry" | "resume" | "stop"} Action
 * @typedef {object} Code
 * @property {number} number A WebSocket close code when `closes`.
 * @property {string} name
 * @property {string} reason For people.
 * @property {Action} action
 * @property {boolean} closes Whether it ends a connection.
 */

/** @type {[number, string, string, Action, boolean][]} */
const ROWS = [
  [1000, "closed", "the session was closed", "stop", true],
  [1001, "going_away", "the server or the page is leaving", "resume", true],
  [1005, "no_status", "the connection ended without a code", "resume", true],
  [1006, "abnormal", "the connection was lost", "resume", true],
  [1007, "invalid_data", "a text frame is not UTF-8", "resume", true],
  [1009, "too_big", "a frame is larger than the limit", "resume", true],
  [1011, "internal", "the server failed", "resume", true],
  [1012, "restart", "the server restarts", "resume", true],
  [1013, "overloaded", "the server is full", "retry", true],
  [4400, "bad_frame", "the frame cannot be decoded", "stop", false],
  [4401, "unauthorized", "authentication is missing or wrong", "stop", true],
  [4403, "forbidden", "this origin or principal may not connect", "stop", true],
  [4404, "unknown_type", "the event type is unknown", "stop", false],
  [4408, "open_timeout", "no first frame in time", "retry", true],
  [4409, "replaced", "a newer connection drives the session", "stop", true],
  [4410, "expired", "the session was idle for too long", "retry", true],
  [4413, "slow_consumer", "the client reads too slowly", "resume", true],
  [4415, "wrong_codec", "text and binary frames do not match the subprotocol", "stop", false],
  [4422, "bad_event", "a field is missing, of the wrong type, or out of bounds", "stop", false],
  [4423, "already_open", "session.open must be the first frame", "stop", false],
  [4424, "unsupported", "this session cannot do that", "stop", false],
  [4425, "unknown_turn", "no such turn", "stop", false],
  [4426, "not_running", "the turn does not run any more", "stop", false],
  [4427, "unknown_call", "no tool call waits under this id", "stop", false],
  [4428, "session_lost", "the session was lost, nothing was applied", "retry", false],
  [4429, "flooded", "too many frames or bytes", "resume", true],
  [4430, "id_reused", "the id was used for something else", "stop", false],
  [4431, "share_used", "this client uses its share of the server", "retry", true],
  [4450, "busy", "a turn is running", "retry", false],
  [4451, "queue_full", "too many inputs wait", "retry", false],
  [4453, "shutting_down", "the server is shutting down", "retry", false],
  [4454, "at_capacity", "the server has no room for this now", "retry", false],
  [4455, "no_speech", "nothing was said", "stop", false],
  [4456, "upstream", "a service behind the server failed", "retry", false],
  [4457, "unsupported_attachment", "the agent takes no such file", "stop", false],
];

/** @type {ReadonlyArray<Readonly<Code>>} */
export const CODES = ROWS.map(([number, name, reason, action, closes]) =>
  Object.freeze({ number, name, reason, action, closes }),
);

const byName = new Map(CODES.map((code) => [code.name, code]));
const closing = new Map(CODES.filter((code) => code.closes).map((code) => [code.number, code]));

/**
 * Returns the row with this name; undefined for a name of a newer peer.
 *
 * @param {string} name
 */
export function codeNamed(name) {
  return byName.get(name);
}

/**
 * The row for a WebSocket close code; an unlisted one counts as a lost connection.
 *
 * @param {number} number
 * @returns {Code}
 */
export function codeOfClose(number) {
  return closing.get(number) ?? row("abnormal");
}

/**
 * The row called `name`, which the table holds.
 *
 * @param {string} name
 * @returns {Code}
 */
export function row(name) {
  const code = byName.get(name);
  if (code === undefined) throw new TypeError(`expected a name of the table of codes, got ${name}`);
  return code;
}
