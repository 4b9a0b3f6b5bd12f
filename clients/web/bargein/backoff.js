/**
 * Returns the delay before an attempt to connect, in milliseconds: exponential backoff with full jitter, which
 * spreads the reconnects of a server's many clients ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
 *
 * @param {number} attempt Number of the attempt, from 1.
 * @param {number} random From 0 to below 1.
 */
export function backoff(attempt, random) {
  return random * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempt - 1, 16));
}

const BASE_MS = 500;
const CAP_MS = 30_000;
