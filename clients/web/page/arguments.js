/**
 * Arguments of a call while they stream: JSON that may be incomplete.
 *
 * @module
 */

import { parse } from "../vendor/partial-json.js";

/**
 * Returns the arguments so far; null while there are none, or if they are no object.
 *
 * @param {string} text
 * @returns {Record<string, unknown> | null}
 */
export function soFar(text) {
  try {
    const value = parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null; // nothing yet, or a model that writes no JSON: the card shows the text as it is
  }
}

/** Returns a readable form of a value. @param {unknown} value */
export function readable(value) {
  return typeof value === "string" ? value : (JSON.stringify(value, null, 1) ?? "");
}
