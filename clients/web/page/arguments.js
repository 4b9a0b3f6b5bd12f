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

/**
 * Returns text with visible escapes in place of characters that are not shown or that change the direction of text, for
 * a question to the user. Joiners and selectors within emoji stay.
 *
 * @param {string} text
 */
export function revealed(text) {
  return text.replace(HIDDEN, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}

const IN_EMOJI = String.raw`(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])[\u200d\ufe0f]|\ufe0f(?=\u20e3)`;
const HIDDEN = new RegExp(String.raw`(?!${IN_EMOJI}|[\n\t])[\p{Cc}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\p{Zl}\p{Zp}]`, "gu");
