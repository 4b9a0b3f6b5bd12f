/**
 * Elements for growing Markdown.
 *
 * `markdown-it` parses the text, and the elements are made from its tokens: no HTML is written or parsed, so any
 * output of a model stays text. HTML is shown literally, only links to the web and to mail addresses become links,
 * and images are named instead of loaded.
 *
 * While text streams, only the last block can change. Earlier blocks are neither parsed nor changed again.
 *
 * @module
 */

import MarkdownIt from "../../vendor/markdown-it.js";
import { el } from "../dom.js";
import { codeBlock } from "./code.js";
import { addMath, math } from "./math.js";
import { morphChildren } from "./morph.js";

/** @import { Token } from "../../vendor/markdown-it.js" */

const reader = new MarkdownIt({ html: false, linkify: true, typographer: false });
// A bare "name.py" is more often a file than a domain of Paraguay.
reader.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
addMath(reader);
const SAFE_LINK = /^(?:https?:|mailto:)/i;

/** Growing Markdown in an element. */
export class MarkdownStream {
  #settled = 0;
  #settledNodes = 0;

  /** @param {HTMLElement} element Where it is shown; nothing else may stand in it. */
  constructor(element) {
    this.element = element;
    /** The rendered text. */
    this.text = "";
  }

  /** Renders a text that begins with the text before. @param {string} text */
  update(text) {
    if (text === this.text) return;
    if (!text.startsWith(this.text.slice(0, this.#settled))) this.#settled = this.#settledNodes = 0;
    this.text = text;
    const rest = text.slice(this.#settled);
    const tokens = reader.parse(rest, {});
    const last = lastBlock(tokens);
    const fresh = new DocumentFragment();
    build(tokens.slice(0, last), fresh);
    const whole = fresh.childNodes.length;
    build(tokens.slice(last), fresh);
    morphChildren(this.element, fresh, this.#settledNodes);
    this.#settledNodes += whole;
    this.#settled += offsetOfLine(rest, tokens[last]?.map?.[0] ?? 0);
  }
}

/** Renders a text that does not grow. @param {string} text */
export function markdown(text) {
  const fragment = new DocumentFragment();
  build(reader.parse(text, {}), fragment);
  return fragment;
}

/** Returns Markdown without its signs, for speech: also a part of a text, in which a sign may lack its end. @param {string} text */
export function spoken(text) {
  const lines = [];
  for (const token of reader.parse(text, {})) {
    if (token.type === "inline") lines.push((token.children ?? []).map((child) => (child.type.endsWith("break") ? "\n" : child.content)).join(""));
    else if (token.content !== "") lines.push(token.content);
  }
  return lines.join("\n").replace(/\*{2,}|~~|`+/g, "").trim();
}

/** Returns the index of the token that opens the last block. @param {Token[]} tokens */
function lastBlock(tokens) {
  for (let index = tokens.length - 1; index >= 0; index--) {
    const token = tokens[index];
    if (token?.level === 0 && token.nesting >= 0 && token.map !== null) return index;
  }
  return 0;
}

/** @param {string} text @param {number} line */
function offsetOfLine(text, line) {
  let offset = 0;
  for (; line > 0; line--) {
    const end = /\r\n?|\n/g;
    end.lastIndex = offset;
    if (end.exec(text) === null) return offset;
    offset = end.lastIndex;
  }
  return offset;
}

/**
 * Adds the elements for tokens to a node.
 *
 * @param {Token[]} tokens
 * @param {Node} root
 */
function build(tokens, root) {
  const stack = [root];
  for (const [index, token] of tokens.entries()) {
    const parent = stack.at(-1) ?? root;
    if (token.hidden) continue;
    if (token.nesting === 1) {
      const element = opened(token);
      parent.appendChild(element);
      stack.push(token.type === "table_open" ? /** @type {Element} */ (element.firstChild) : element);
    } else if (token.nesting === -1) {
      stack.pop();
    } else if (token.type === "inline") {
      const box = tokens[index - 2]?.type === "list_item_open" ? checkbox(token) : null;
      if (box !== null) parent.appendChild(box);
      build(token.children ?? [], parent);
    } else {
      parent.appendChild(leaf(token));
    }
  }
}

/** Returns the box of an item of a task list, and removes its mark from the text; null for another item. @param {Token} token */
function checkbox(token) {
  const first = token.children?.[0];
  const mark = first?.type === "text" ? /^\[([ xX])\](?:\s+|$)/.exec(first.content) : null;
  if (first === undefined || mark === null) return null;
  first.content = first.content.slice(mark[0].length);
  const isDone = mark[1] !== " ";
  return el("input", { type: "checkbox", disabled: true, checked: isDone, "aria-label": isDone ? "Done" : "To do" });
}

/** @param {Token} token */
function opened(token) {
  if (token.type === "link_open") return link(token.attrGet("href") ?? "");
  if (token.type === "table_open") {
    const scrolled = { class: "table", role: "region", "aria-label": "Table", tabindex: 0, dir: "auto" };
    return el("div", scrolled, el("table"));
  }
  // Headings of an answer are below those of the page.
  const tag = token.type === "heading_open" ? `h${Math.min(6, Number(token.tag[1]) + 2)}` : token.tag;
  const element = document.createElement(tag);
  // Each block has the direction of its first letter; blocks inside follow it.
  if (token.level === 0) element.dir = "auto";
  const align = /^text-align:(left|center|right)$/.exec(token.attrGet("style") ?? "");
  if (align !== null) element.className = `to-${align[1]}`;
  if (token.type === "ordered_list_open") {
    const start = Number(token.attrGet("start") ?? 1);
    if (start !== 1) element.setAttribute("start", String(start));
  }
  return element;
}

/** @param {Token} token @returns {Node} */
function leaf(token) {
  switch (token.type) {
    case "code_inline":
      return el("code", {}, token.content);
    case "fence":
    case "code_block":
      return codeBlock(token.content, token.info);
    case "math_inline":
    case "math_block":
      return math(token.content, token.type === "math_block");
    case "hardbreak":
      return el("br");
    case "softbreak":
      return document.createTextNode("\n");
    case "hr":
      return el("hr");
    case "image":
      return picture(token);
    default:
      return document.createTextNode(token.content);
  }
}

/** @param {string} href */
function link(href) {
  if (!SAFE_LINK.test(href)) return el("span");
  return el("a", { href, target: "_blank", rel: "noopener noreferrer" });
}

/** @param {Token} token */
function picture(token) {
  const place = link(token.attrGet("src") ?? "");
  place.append(`[picture: ${token.content || "without a name"}]`);
  return place;
}
