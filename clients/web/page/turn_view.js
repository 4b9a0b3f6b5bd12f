/**
 * View of one exchange: the user's message, and the answer as it arrives.
 *
 * @module
 */

import { el } from "./dom.js";
import { ExchangeActions } from "./exchange_actions.js";
import { fileList } from "./files.js";
import { icon } from "./icons.js";
import { LaneView } from "./lane_view.js";
import { inWords, outcome, place, refusal } from "./words.js";

/** @import { FullTurnState, TurnEvent } from "../bargein/types.js" */
/** @import { Journal } from "./store.js" */
/** @import { Frames } from "./frames.js" */
/** @import { Desk, Ended, Output, When } from "./types.js" */

export class TurnView {
  #confirmed = el("span", { class: "confirmed" });
  #skeleton = el("div", { class: "skeleton", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
  #lanes = el("div", { class: "lanes" });
  /** @type {Map<string, LaneView>} */
  #byName = new Map();
  #answer = el("div", { class: "answer" });
  #outcome = el("footer", { class: "ended", hidden: true });
  #suggestions = el("div", { class: "suggestions", hidden: true });
  #actions;
  #isFrozen = false;
  #hasSpoken = false;

  /**
   * @param {Journal} journal The user's message, where that is known, and its files.
   * @param {Frames} frames
   * @param {Desk} desk
   */
  constructor(journal, frames, desk) {
    const { input, files = [] } = journal;
    this.journal = journal;
    this.input = input;
    /** Whether the page has the content of the message's files, to send it again. */
    this.hasContent = files.length === 0;
    this.frames = frames;
    this.desk = desk;
    this.mainLane = new LaneView(desk, journal.begunAt);
    /** @type {Ended | null} */
    this.ended = null;
    /** Whether the server refused the input. */
    this.isRefused = false;
    const said = el("span", { dir: "auto" }, input ?? "");
    const shown = files.length === 0 ? null : fileList(files);
    const user = el("div", { class: "user" }, shown, el("span", { class: "sr-only" }, "You said: "), said, this.#confirmed);
    this.#actions = new ExchangeActions(this, user, desk);
    this.#answer.append(this.#skeleton, this.mainLane.element, this.#suggestions, this.#outcome, this.#actions.ofAnswer);
    const ofUser = input === null ? [] : [user, this.#actions.ofInput];
    this.element = el("article", { class: "turn", "aria-label": "Exchange" }, ...ofUser, this.#answer);
    this.#confirm("clock", "Sending");
  }

  /** Adds an event of the turn, to be rendered in the next frame. @param {TurnEvent} event @param {When} when */
  apply(event, when) {
    switch (event.type) {
      case "input.accepted":
        this.#confirm("check", "Received");
        break;
      case "input.queued":
        this.#confirm("clock", place(event.position));
        this.element.dataset.queued = "";
        break;
      case "turn.started":
        this.#confirm("check", "Received");
        delete this.element.dataset.queued;
        break;
      case "turn.held":
      case "turn.resumed":
        this.element.classList.toggle("held", event.type === "turn.held");
        break;
      case "turn.ended":
      case "client.turn_snapshot":
        break;
      case "data":
        if (event.name === "suggestions") this.#suggest(event.value);
        else if (event.name === "log") this.#hear(event, when);
        break;
      default:
        if ("source" in event || isOutput(event)) this.#hear(/** @type {Output} */ (event), when);
    }
    this.frames.request(this);
  }

  /** Stops rendering until `thaw`, at the moment of an interrupt (section 5 of the protocol). */
  freeze() {
    this.#isFrozen = true;
    this.frames.cancel(this);
    this.element.classList.add("silenced");
  }

  /** Continues rendering, because the server deferred the interrupt. */
  thaw() {
    this.#isFrozen = false;
    this.element.classList.remove("silenced");
    this.frames.request(this);
  }

  /** Renders the changes. */
  render() {
    if (this.#isFrozen) return;
    this.#skeleton.hidden = this.#hasSpoken || this.ended !== null || "queued" in this.element.dataset;
    this.mainLane.render();
    for (const lane of this.#byName.values()) lane.render();
  }

  /** Shows that the server refused the input. @param {string} code */
  refuse(code) {
    this.#confirm("warning", "Not sent");
    this.element.dataset.status = "failed";
    this.isRefused = true;
    this.#skeleton.hidden = true;
    this.#close(refusal(code), true);
  }

  /**
   * Shows how the turn ended.
   *
   * @param {Ended} ended
   * @param {When} when
   * @param {number | null} tookMs From the request to the end, for an interrupt of this page.
   */
  end(ended, when, tookMs = null) {
    this.#isFrozen = false;
    this.frames.cancel(this);
    this.ended = ended;
    this.element.classList.remove("silenced", "held");
    delete this.element.dataset.queued;
    this.element.dataset.status = ended.status;
    const heard = ended.heard?.text ?? "";
    this.#skeleton.hidden = true;
    this.mainLane.end(ended.status === "interrupted" ? heard : null, when);
    for (const lane of this.#byName.values()) lane.end(null, when);
    this.#close(outcome(ended, ended.status === "interrupted" ? heard : this.mainLane.said, tookMs), ended.status === "failed");
  }

  /** Shows the audio position. @param {number} ms */
  soundPlayed(ms) {
    this.mainLane.playedTo(ms);
    this.frames.request(this);
  }

  /** Shows the final audio position. @param {number} ms @param {boolean} wasCut Whether the audio was stopped early. */
  soundEnded(ms, wasCut) {
    this.mainLane.playedTo(wasCut ? ms : null);
    if (wasCut && this.mainLane.text === "") this.cutLate(this.mainLane.heardWords);
    this.frames.request(this);
  }

  /** Shows that the audio was stopped after the turn had ended on the server. @param {string} heard */
  cutLate(heard) {
    if (this.ended?.status !== "completed") return;
    this.mainLane.cut(heard, "live");
    this.element.dataset.status = "interrupted";
    this.#close(`Stopped after ${inWords(heard)}`, false);
  }

  /** Replaces the display by a state. @param {FullTurnState} state */
  replace(state) {
    this.mainLane.element.remove();
    this.#byName.clear();
    this.#lanes.replaceChildren();
    this.mainLane = new LaneView(this.desk, this.journal.begunAt);
    this.#skeleton.after(this.mainLane.element);
    if (state.started) this.#confirm("check", "Received");
    for (const [source, lane] of Object.entries(state.lanes)) {
      for (const event of eventsOf(lane)) this.apply(/** @type {any} */ ({ ...event, source }), "restored");
    }
    this.frames.request(this);
  }

  /** @param {Output} event @param {When} when */
  #hear(event, when) {
    this.#hasSpoken = true;
    this.#laneOf(event.source ?? "", when === "live" ? Date.now() : null).apply(event, when);
  }

  /** @param {string} source @param {number | null} now */
  #laneOf(source, now) {
    if (source === "") return this.mainLane;
    let lane = this.#byName.get(source);
    if (lane === undefined) {
      lane = new LaneView(this.desk, now);
      if (this.#byName.size === 0) this.mainLane.insert(this.#lanes);
      this.#byName.set(source, lane);
      this.#lanes.append(el("section", { class: "lane", "aria-label": source }, el("h3", {}, source), lane.element));
    }
    return lane;
  }

  /** @param {string} name @param {string} words */
  #confirm(name, words) {
    this.#confirmed.replaceChildren(icon(name), el("span", { class: name === "check" ? "sr-only" : "" }, ` ${words}`));
  }

  /** @param {unknown} value */
  #suggest(value) {
    const texts = Array.isArray(value) ? value.filter((text) => typeof text === "string").slice(0, 8) : [];
    this.#suggestions.hidden = texts.length === 0;
    this.#suggestions.replaceChildren(
      ...texts.map((text) => el("button", { type: "button", dir: "auto", onclick: () => this.desk.send(text) }, text)),
    );
  }

  /** @param {string} words @param {boolean} failed */
  #close(words, failed) {
    const { input } = this;
    const again =
      failed && input !== null
        ? el("button", { type: "button", onclick: () => this.desk.send(input) }, "Send again")
        : null;
    const kind = failed ? "warning" : this.element.dataset.status === "interrupted" ? "cut" : "check";
    this.#outcome.hidden = false;
    this.#outcome.replaceChildren(icon(kind), el("span", {}, words), ...(again === null ? [] : [again]));
    this.#actions.offer();
  }
}

/** Returns a short description of the displayed text, for screen readers. @param {TurnView} view */
export function summary(view) {
  return inWords(view.mainLane.said);
}

/** @param {TurnEvent} event */
function isOutput(event) {
  return /^(?:status|thought|text\.delta|audio\.delta|tool\.|step\.|progress)/.test(event.type);
}

/** Yields events that lead to the state of a lane. @param {FullTurnState["lanes"][string]} lane */
function eventsOf(lane) {
  const events = [];
  if (lane.status !== null) events.push({ type: "status", message: lane.status });
  if (lane.thoughts !== "") events.push({ type: "thought", text: lane.thoughts });
  for (const { call_id, name, arguments: written, given, state, output, error, duration_ms } of lane.tools) {
    events.push({ type: "tool.call", call_id, name });
    if (written !== "") events.push({ type: "tool.call.delta", call_id, arguments: written });
    if (state === "confirming") events.push({ type: "tool.confirm", call_id, arguments: given ?? {} });
    else if (given !== null) events.push({ type: "tool.running", call_id, arguments: given });
    if (state !== "called" && state !== "confirming" && state !== "running") {
      const status = state === "background" ? "running" : state;
      events.push({ type: "tool.result", call_id, output, error, status, duration_ms });
    }
  }
  if (lane.progress !== null) events.push({ type: "progress", ...lane.progress });
  if (lane.text !== "") events.push({ type: "text.delta", text: lane.text });
  for (const span of lane.audio) events.push({ type: "audio.delta", ...span });
  for (const [name, value] of Object.entries(lane.data)) events.push({ type: "data", name, value });
  return events;
}
