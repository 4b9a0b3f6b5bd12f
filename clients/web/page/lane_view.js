/**
 * View of one lane of a turn: its steps, and a body with text, cards and spoken words in the order of their events.
 *
 * @module
 */

import { cardFor } from "./cards.js";
import { el, say } from "./dom.js";
import { MarkdownStream } from "./text/markdown.js";
import { Steps } from "./steps.js";

/** @import { Desk, Output, When } from "./types.js" */
/** @import { Draft, Question } from "./cards.js" */

export class LaneView {
  /** Pieces of text between cards. @type {{from: number, stream: MarkdownStream}[]} */
  #pieces = [];
  #isPieceOver = true;
  /** @type {Map<string, Draft | Question>} */
  #cards = new Map();
  /** @type {Set<string>} */
  #refused = new Set();
  #heardWords = el("span");
  #aheadWords = el("span", { class: "ahead" });
  /** @type {{startMs: number, endMs: number, from: number, to: number}[]} */
  #spans = [];
  #words = "";
  /** @type {number | null} */
  #playedMs = null;

  /** @param {Desk} desk @param {number | null} begunAt When it began, in milliseconds since 1970; null if unknown. */
  constructor(desk, begunAt) {
    this.desk = desk;
    this.steps = new Steps(begunAt);
    this.body = el("div", { class: "body" });
    this.element = el("div", { class: "lane-content" }, this.steps.element, this.body);
    /** All text so far. */
    this.text = "";
    /** Length of the rendered text, in UTF-16 units. */
    this.shown = 0;
  }

  /** Whether the lane has visible content. */
  get isEmpty() {
    return this.text === "" && this.#words === "" && this.steps.element.hidden && this.#cards.size === 0;
  }

  /** Written or spoken text. */
  get said() {
    return this.text || this.#words;
  }

  /** The rendered text, at the moment of the call. */
  get shownText() {
    return this.text.slice(0, this.shown);
  }

  /** @param {Output} event @param {When} when */
  apply(event, when) {
    if (event.type === "text.delta") this.text += event.text;
    else if (event.type === "audio.delta") this.#hear(event);
    else if (this.steps.apply(event) && event.type.startsWith("tool.")) this.#attend(when);
  }

  /** Sets the audio position; null counts all audio. @param {number | null} ms */
  playedTo(ms) {
    this.#playedMs = ms;
  }

  /** The words whose audio was played. */
  get heardWords() {
    const played = this.#playedMs;
    const begun = played === null ? this.#spans.at(-1) : this.#spans.findLast((span) => span.startMs < played);
    return this.#words.slice(0, begun?.to ?? 0);
  }

  render() {
    this.steps.render();
    for (const card of this.#cards.values()) card.render();
    if (this.shown < this.text.length) this.#showText();
    if (this.#words !== "" && this.text === "") this.#renderWords();
  }

  /**
   * Shows the end: heard text stays, text that was shown but not heard is dimmed, the rest is removed.
   *
   * @param {string | null} heard What was heard when the turn was cut; null when it was not.
   * @param {When} when
   */
  end(heard, when) {
    this.steps.end(when === "live");
    if (heard !== null) this.cut(heard, when);
    this.render();
  }

  /** Marks the position of the cut, and dims the text that was not heard. @param {string} heard @param {When} when */
  cut(heard, when) {
    if (this.text === "" && this.#words !== "") {
      const rest = this.#words.slice(heard.length);
      this.body.replaceChildren(el("p", {}, heard, cutMark(), when === "live" ? unheard(rest) : null));
      this.#words = "";
      return;
    }
    const shown = when === "live" ? this.shownText : heard;
    const stays = shown.startsWith(heard) ? heard : shown;
    this.text = stays;
    this.shown = stays.length;
    if (this.#pieces.length === 0 && stays !== "") this.#newPiece().from = 0;
    for (const [index, piece] of this.#pieces.entries()) {
      piece.stream.update(stays.slice(piece.from, this.#pieces[index + 1]?.from));
    }
    lastText(this.body)?.append(cutMark());
    if (shown.length > stays.length) this.body.append(el("p", {}, unheard(shown.slice(stays.length))));
  }

  /** @param {Extract<Output, {type: "audio.delta"}>} event */
  #hear({ start_ms, duration_ms, text }) {
    const from = this.#words.length;
    this.#words += text ?? "";
    this.#spans.push({ startMs: start_ms, endMs: start_ms + duration_ms, from, to: this.#words.length });
  }

  #renderWords() {
    if (!this.#heardWords.isConnected) this.body.append(el("p", { class: "spoken" }, this.#heardWords, this.#aheadWords));
    const heard = this.heardWords;
    say(this.#heardWords, heard);
    say(this.#aheadWords, this.#words.slice(heard.length));
  }

  /** Adds the cards of calls, and refuses calls of tools that the page does not have. @param {When} when */
  #attend(when) {
    for (const call of this.steps.calls.values()) {
      const known = this.#cards.has(call.callId);
      const card = known ? null : cardFor(call, this.desk);
      if (card !== null) {
        this.#cards.set(call.callId, card);
        this.insert(card.element);
      } else if (!known && call.state === "running" && call.runsIn === "client" && !this.#refused.has(call.callId)) {
        this.#refused.add(call.callId);
        if (when === "live") this.desk.answer(call.callId, { error: "this page has no such tool" });
      }
    }
  }

  /** Appends an element to the body. @param {HTMLElement} element */
  insert(element) {
    this.#finishPiece();
    this.body.append(element);
  }

  /** Starts a new piece of text below. */
  #finishPiece() {
    if (this.shown < this.text.length) this.#showText();
    this.#isPieceOver = true;
  }

  #showText() {
    const piece = (this.#isPieceOver ? null : this.#pieces.at(-1)) ?? this.#newPiece();
    piece.stream.update(this.text.slice(piece.from));
    this.shown = this.text.length;
  }

  #newPiece() {
    const place = el("div", { class: "text" });
    this.body.append(place);
    const piece = { from: this.shown, stream: new MarkdownStream(place) };
    this.#pieces.push(piece);
    this.#isPieceOver = false;
    return piece;
  }
}

function cutMark() {
  return el("span", { class: "cut", role: "img", "aria-label": "cut off here", title: "cut off here" }, "✂");
}

/** @param {string} text */
function unheard(text) {
  return el("span", { class: "unheard", title: "sent, but not heard" }, text);
}

/** Returns the innermost last element with text, for a mark. @param {Element} body */
function lastText(body) {
  const blocks = body.querySelectorAll(".text :is(p, li, h3, h4, h5, h6, td, code)");
  return blocks[blocks.length - 1] ?? null;
}
