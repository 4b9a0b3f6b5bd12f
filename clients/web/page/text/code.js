/**
 * Blocks of code with a copy button and coloured tokens. The highlighter is loaded with the first block of a language
 * and splits the code into a tree of tokens; no HTML is written.
 *
 * @module
 */

import { el } from "../dom.js";

/** @import { TokenNode } from "../../vendor/highlight.js" */

/** The longest code that is coloured, in UTF-16 units: while it streams, all of it is split again. */
const MOST_COLOURED = 30_000;

/** @type {typeof import("../../vendor/highlight.js").default | null} */
let highlighter = null;
let isLoading = false;

/** Returns the block of a code. @param {string} text @param {string} info The text behind the fence. */
export function codeBlock(text, info) {
  const language = (info.trim().split(/\s+/)[0] ?? "").slice(0, 20);
  const code = el("code", { "data-language": language.toLowerCase() });
  colour(code, text, language.toLowerCase());
  return el(
    "figure",
    { class: "code", dir: "ltr" },
    el("figcaption", {}, el("span", {}, language || "text"), el("button", { type: "button", class: "copy" }, "Copy")),
    el("pre", { tabindex: 0 }, code),
  );
}

/** @param {HTMLElement} code @param {string} text @param {string} language */
function colour(code, text, language) {
  code.textContent = text;
  if (language === "" || language === "text" || text.length > MOST_COLOURED) return;
  if (highlighter === null) {
    load();
  } else if (highlighter.getLanguage(language) !== undefined) {
    const { rootNode } = highlighter.highlight(text, { language, ignoreIllegals: true })._emitter;
    code.replaceChildren(...nodes(rootNode));
  }
}

/** @param {TokenNode} root @returns {(Node | string)[]} */
function nodes(root) {
  return root.children.map((child) => {
    if (typeof child === "string") return child;
    const kind = child.scope?.split(".")[0];
    return el("span", { class: kind === undefined ? null : `token-${kind}` }, ...nodes(child).map(asNode));
  });
}

/** @param {Node | string} child */
function asNode(child) {
  return typeof child === "string" ? document.createTextNode(child) : child;
}

/** Loads the highlighter, and colours the code of the page. */
async function load() {
  if (isLoading) return;
  isLoading = true;
  try {
    highlighter = (await import("../../vendor/highlight.js")).default;
  } catch {
    isLoading = false; // tried again with the next block
    return;
  }
  for (const code of document.querySelectorAll(".code code")) {
    if (code instanceof HTMLElement) colour(code, code.textContent ?? "", code.dataset.language ?? "");
  }
}

/** Handles clicks on the copy buttons of code blocks in an element. @param {HTMLElement} root */
export function listenForCopies(root) {
  root.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button.copy") : null;
    const code = button?.closest("figure")?.querySelector("code");
    if (button == null || code == null) return;
    copy(button, code.textContent ?? "");
  });
}

/** Copies a text, and shows the outcome on the button for a moment. @param {Element} button @param {string} text */
export async function copy(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select it: the browser does not let pages copy";
  }
  setTimeout(() => (button.textContent = before), 1500);
}
