/**
 * Formulas in Markdown: `$…$` and `\(…\)` in a line, `$$…$$` and `\[…\]` as blocks.
 *
 * KaTeX is loaded with the first formula and writes MathML, which browsers render without fonts or styles of KaTeX.
 * Until it is loaded, and for TeX that it cannot parse, the source is shown.
 *
 * @module
 */

import { el } from "../dom.js";

/** @import MarkdownIt from "../../vendor/markdown-it.js" */
/** @import { BlockState, InlineState } from "../../vendor/markdown-it.js" */

/** The longest formula, in UTF-16 units; it also bounds the search for the end of one. */
const MOST_TEX = 4000;

/**
 * A dollar begins a formula before anything but a space, and ends it after anything but a space and before anything
 * but a digit, so that "$5 and $10" are amounts.
 */
const INLINE = new RegExp(
  [
    String.raw`\$\$([^$]{1,${MOST_TEX}}?)\$\$`,
    String.raw`\$(?!\s)((?:\\[^]|[^$\\]){0,${MOST_TEX}}?(?:\\[^]|[^$\\\s]))\$(?!\d)`,
    String.raw`\\\(([^]{1,${MOST_TEX}}?)\\\)`,
    String.raw`\\\[([^]{1,${MOST_TEX}}?)\\\]`,
  ].join("|"),
  "y",
);

/** @type {typeof import("../../vendor/katex.js").default | null} */
let katex = null;
let isLoading = false;

/** Adds the rules for formulas to a parser; its tokens are `math_inline` and `math_block`. @param {MarkdownIt} parser */
export function addMath(parser) {
  parser.inline.ruler.before("escape", "math_inline", inlineRule);
  parser.block.ruler.before("fence", "math_block", blockRule, { alt: ["paragraph", "reference", "blockquote", "list"] });
}

/** Returns the element of a formula. @param {string} tex @param {boolean} isBlock */
export function math(tex, isBlock) {
  const place = el(isBlock ? "div" : "span", { class: "math", dir: "ltr" });
  draw(place, tex, isBlock);
  return place;
}

/** @param {InlineState} state @param {boolean} silent */
function inlineRule(state, silent) {
  const first = state.src.charCodeAt(state.pos);
  if (first !== 0x24 && first !== 0x5c) return false;
  INLINE.lastIndex = state.pos;
  const found = INLINE.exec(state.src);
  if (found === null) return false;
  const tex = found[1] ?? found[2] ?? found[3] ?? found[4] ?? "";
  if (!silent) state.push("math_inline", "math", 0).content = tex;
  state.pos += found[0].length;
  return true;
}

/** @param {BlockState} state @param {number} startLine @param {number} endLine @param {boolean} silent */
function blockRule(state, startLine, endLine, silent) {
  const textOf = (/** @type {number} */ line) => {
    return state.src.slice((state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0), state.eMarks[line]).trimEnd();
  };
  const first = textOf(startLine);
  const closing = { "$$": "$$", "\\[": "\\]" }[first.slice(0, 2)];
  if (closing === undefined) return false;
  let tex = first.slice(2);
  let line = startLine;
  // A blank line ends the attempt, so that two dollars in prose do not swallow the rest of an answer.
  while (!tex.endsWith(closing)) {
    line += 1;
    if (line >= endLine || textOf(line) === "" || tex.length > MOST_TEX || tex.includes(closing)) return false;
    tex += `\n${textOf(line)}`;
  }
  tex = tex.slice(0, -2).trim();
  if (tex === "" || tex.includes(closing)) return false;
  if (silent) return true;
  const token = state.push("math_block", "math", 0);
  token.content = tex;
  token.map = [startLine, line + 1];
  state.line = line + 1;
  return true;
}

/** @param {HTMLElement} place @param {string} tex @param {boolean} isBlock */
function draw(place, tex, isBlock) {
  place.textContent = tex;
  if (katex === null) {
    load();
    return;
  }
  try {
    katex.render(tex, place, { output: "mathml", displayMode: isBlock, maxExpand: 200, maxSize: 20, strict: false });
    if (isBlock) place.tabIndex = 0; // wide formulas scroll
  } catch {
    place.textContent = tex;
  }
}

/** Loads KaTeX, and draws the formulas of the page again. */
async function load() {
  if (isLoading) return;
  isLoading = true;
  try {
    katex = (await import("../../vendor/katex.js")).default;
  } catch {
    isLoading = false; // tried again with the next formula
    return;
  }
  for (const place of document.querySelectorAll(".math")) {
    if (place instanceof HTMLElement) draw(place, place.textContent ?? "", place.localName === "div");
  }
}
