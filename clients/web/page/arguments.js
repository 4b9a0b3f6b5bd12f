/**
 * The arguments of a call while they are being written: JSON that stops anywhere.
 *
 * @module
 */

import { parse } from "../vendor/partial-json.js";

/**
 * What is there so far; null while that is nothing, or no object.
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

/** A value as people read it. @param {unknown} value */
export function readable(value) {
  return typeof value === "string" ? value : (JSON.stringify(value, null, 1) ?? "");
}
