/**
 * Delivery state of a turn's output, and the only table of its transitions.
 *
 * Contract 2: from the moment an interrupt is sent, nothing of the turn is rendered or played. The server's
 * answer decides whether the output that was withheld meanwhile is dropped or delivered.
 *
 *     state                withhold             end      defer                release
 *     delivered            withheld
 *     withheld                                  dropped  protected_withheld   delivered
 *     protected            protected_withheld
 *     protected_withheld                        dropped                       protected
 *     dropped
 *
 * An empty cell leaves the state as it is. `close` leads from every state to `ended`, which nothing leaves.
 *
 * @module
 */

/**
 * - `delivered`: output reaches the consumers.
 * - `withheld`: a request to end the turn has no answer yet; output is kept back.
 * - `protected`: the server deferred the end; the rest of the output is delivered, even if the turn is then cut.
 * - `protected_withheld`: the end was deferred, and another request to end the turn has no answer yet.
 * - `dropped`: the server accepted the end; no further output is delivered.
 * - `ended`: the turn ended, or its input was refused.
 *
 * @typedef {"delivered" | "withheld" | "protected" | "protected_withheld" | "dropped" | "ended"} Delivery
 */

/**
 * Cause of a transition.
 *
 * - `withhold`: a request to end the turn was sent.
 * - `end`: the server accepted such a request.
 * - `defer`: the server deferred it until a protected section is over.
 * - `release`: no request to end the turn waits for an answer any more.
 * - `close`: the turn is over.
 *
 * @typedef {"withhold" | "end" | "defer" | "release" | "close"} Signal
 */

/** @type {Record<Delivery, Partial<Record<Signal, Delivery>>>} */
const TRANSITIONS = {
  delivered: { withhold: "withheld" },
  withheld: { end: "dropped", defer: "protected_withheld", release: "delivered" },
  protected: { withhold: "protected_withheld" },
  protected_withheld: { end: "dropped", release: "protected" },
  dropped: {},
  ended: {},
};

/**
 * Returns the state after a signal.
 *
 * @param {Delivery} state
 * @param {Signal} signal
 * @returns {Delivery}
 */
export function transition(state, signal) {
  return signal === "close" ? "ended" : (TRANSITIONS[state][signal] ?? state);
}

/**
 * Returns whether output reaches the consumers now.
 *
 * @param {Delivery} state
 */
export function isDelivered(state) {
  return state === "delivered" || state === "protected";
}
