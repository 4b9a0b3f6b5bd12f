/**
 * The delay before attempt number `attempt`, in milliseconds: exponential growth with full jitter, so that
 * many clients of one server do not come back at once ("Exponential Backoff And Jitter", AWS
 * Architecture Blog, 2015).
 *
 * @param {number} attempt From 1.
 * @param {number} chance From 0 to below 1.
 */
export function backoff(attempt, chance) {
  return chance * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempt - 1, 16));
}

const BASE_MS = 500;
const CAP_MS = 30_000;
