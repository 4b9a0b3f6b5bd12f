/**
 * Conversations of this browser, in `localStorage`: an index with their titles, and the state that continues each.
 *
 * A state holds the secret of its session, so it is readable for pages of this origin only. Old states are dropped when
 * the browser has no more room; a conversation without one can still be listed by the server.
 *
 * @module
 */

import { Journal } from "../store.js";

/** @import { Kept } from "../store.js" */

const INDEX = "bargein.conversations";
const STATE = "bargein.conversation.";
const MOST_LISTED = 200;
/** The largest state, in UTF-16 units; browsers allow about five million per site. */
const MOST_KEPT = 400_000;

/**
 * @typedef {object} Entry
 * @property {string} id Of the session.
 * @property {string} title
 * @property {boolean} isNamed Whether the user chose the title.
 * @property {number} usedAt In milliseconds since 1970.
 */

/** Returns the conversations, the last used first. @returns {Entry[]} */
export function entries() {
  try {
    const found = JSON.parse(localStorage.getItem(INDEX) ?? "[]");
    return Array.isArray(found) ? found.filter((entry) => typeof entry?.id === "string" && typeof entry.title === "string") : [];
  } catch {
    return [];
  }
}

/**
 * Stores a conversation.
 *
 * @param {string} id
 * @param {string} title Its title, unless the user chose another.
 * @param {Kept} kept
 */
export function put(id, title, kept) {
  const all = entries();
  const before = all.find((entry) => entry.id === id);
  const entry = before?.isNamed ? before : { id, title, isNamed: false, usedAt: 0 };
  const rest = all.filter((one) => one.id !== id);
  for (const { id: old } of rest.splice(MOST_LISTED - 1)) dropState(old);
  write(INDEX, JSON.stringify([{ ...entry, usedAt: Date.now() }, ...rest]));
  let { turns } = kept;
  let text = JSON.stringify({ ...kept, turns });
  while (text.length > MOST_KEPT && turns.length > 0) {
    turns = turns.slice(Math.ceil(turns.length / 2));
    text = JSON.stringify({ ...kept, turns });
  }
  const oldest = rest.map((one) => one.id).reverse();
  while (!write(STATE + id, text)) {
    const old = oldest.shift();
    if (old === undefined) return;
    dropState(old);
  }
}

/** Returns the state of a conversation; null when this browser has none. @param {string} id @returns {Kept | null} */
export function state(id) {
  try {
    const value = JSON.parse(localStorage.getItem(STATE + id) ?? "null");
    if (value === null || !Array.isArray(value.turns)) return null;
    const turns = value.turns.map((/** @type {Journal} */ j) => Object.assign(new Journal(j.input, j.inputId), j));
    return { resume: value.resume ?? null, turns, draft: String(value.draft ?? "") };
  } catch {
    return null;
  }
}

/** Names a conversation. @param {string} id @param {string} title */
export function rename(id, title) {
  const all = entries();
  const entry = all.find((one) => one.id === id);
  const named = { id, title, isNamed: true, usedAt: entry?.usedAt ?? Date.now() };
  write(INDEX, JSON.stringify(entry === undefined ? [named, ...all] : all.map((one) => (one === entry ? named : one))));
}

/** Moves a conversation to another session, because the server has lost the first. @param {string} from @param {string} to */
export function move(from, to) {
  write(INDEX, JSON.stringify(entries().map((one) => (one.id === from ? { ...one, id: to } : one))));
  dropState(from);
}

/** Forgets a conversation. @param {string} id */
export function remove(id) {
  write(INDEX, JSON.stringify(entries().filter((one) => one.id !== id)));
  dropState(id);
}

/** Forgets all conversations, as when the user logs out. */
export function removeAll() {
  for (const { id } of entries()) dropState(id);
  write(INDEX, "[]");
}

/** @param {string} id */
function dropState(id) {
  try {
    localStorage.removeItem(STATE + id);
  } catch {
    // no storage, so nothing to delete
  }
}

/** Writes an item; returns false when there is no room. @param {string} key @param {string} text */
function write(key, text) {
  try {
    localStorage.setItem(key, text);
    return true;
  } catch {
    return false;
  }
}
