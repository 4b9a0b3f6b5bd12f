/**
 * Connects the session and the display: routes events to the views of their exchanges, and turns the user's
 * actions into requests. An interrupt freezes the view first, and sends the request after that.
 *
 * @module
 */

import { countCharacters, InputRejected } from "../bargein/index.js";
import { Exchanges } from "./exchanges.js";
import { attached } from "./files.js";
import { Frames } from "./frames.js";
import { TurnView } from "./turn_view.js";
import { failure, outcome } from "./words.js";

/** @import { PlaybackReport, SessionEvents, TurnEvent } from "../bargein/types.js" */
/** @import { ClientSession, ClientTurn } from "../bargein/index.js" */
/** @import { Announcer } from "./announcer.js" */
/** @import { Exchange } from "./exchanges.js" */
/** @import { Chosen } from "./files.js" */
/** @import { Journal } from "./store.js" */
/** @import { Cut, Desk, Ended, When } from "./types.js" */

/**
 * Audio output of turns: sound or speech.
 *
 * @typedef {object} Speaker
 * @property {(turnId: string, event: TurnEvent, view: TurnView) => void} take An event of a turn that came now.
 * @property {() => void} hush Silence, now.
 * @property {(isHeld: boolean) => void} pause Silence for the moment, or on from there.
 * @property {boolean} isSpeaking Whether there is something to hush.
 * @property {(turnId: string) => PlaybackReport | null} played What was played of a turn; null when it speaks nothing of it.
 */

/** @implements {Desk} */
export class Conversation {
  #exchanges;
  /** @type {ClientSession | null} */
  #session = null;
  /** @type {Map<string, Cut>} */
  #cuts = new Map();
  /** Words that were said, by the input that they become. @type {Map<string, string>} */
  #said = new Map();

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.log Where exchanges stand.
   * @param {Announcer} parts.announcer
   * @param {Speaker[]} parts.speakers
   * @param {() => void} parts.changed The conversation has changed: who speaks, what there is to keep.
   * @param {(cut: Cut) => void} parts.onCut An interrupt has gone a step further.
   * @param {() => void} parts.drawn Something was drawn.
   */
  constructor({ log, announcer, speakers, changed, onCut, drawn }) {
    this.log = log;
    this.announcer = announcer;
    this.speakers = speakers;
    this.changed = changed;
    this.onCut = onCut;
    this.#exchanges = new Exchanges(log, (journal) => new TurnView(journal, this.frames, this));
    this.frames = new Frames(() => {
      const view = this.speaking?.view;
      if (view !== undefined) announcer.follow(view.mainLane);
      drawn();
    });
  }

  /** The exchange whose turn runs or runs next; undefined when there is none. */
  get speaking() {
    const turn = this.#session?.current;
    return turn == null || this.#isCut(turn) ? undefined : this.#exchanges.of(turn.id, turn.inputId);
  }

  /** Whether an answer can be stopped. */
  get isSpeaking() {
    return this.speaking !== undefined || this.speakers.some((speaker) => speaker.isSpeaking);
  }

  get journals() {
    return this.#exchanges.journals;
  }

  /** The exchanges as texts, for a file. */
  get exported() {
    return this.#exchanges.exported;
  }

  /** Uses this session from now on. @param {ClientSession} session */
  use(session) {
    this.#session = session;
    const isMine = () => this.#session === session;
    session.on("*", (event) => isMine() && this.#received(event));
    session.on("event", (event) => isMine() && this.#sawRaw(/** @type {any} */ (event)));
    session.on("turn", (turn) => isMine() && this.#watch(turn));
    for (const turn of session.turns) this.#watch(turn);
    this.changed();
  }

  /** Shows exchanges of an earlier page. @param {Journal[]} journals */
  restore(journals) {
    for (const journal of journals) {
      const exchange = this.#exchanges.add(journal.input, journal.inputId, [], journal);
      for (const event of journal.events) this.#show(exchange, event, "restored");
    }
  }

  /** Removes all exchanges. */
  clear() {
    for (const speaker of this.speakers) speaker.hush();
    this.#exchanges.remove(() => true);
    this.#cuts.clear();
    this.#session = null;
  }

  // --- actions of the user ---------------------------------------------------------------------------

  /** Sends a message, which interrupts a running answer. Returns false when it could not be sent. @param {string} text @param {Chosen[]} [files] */
  send(text, files = []) {
    return this.#ask(text, files) !== null;
  }

  /**
   * Asks again in the place of an exchange: with the same text for another answer, or with an edited message. The
   * exchange and all later ones leave the conversation. Returns false when it could not be sent.
   *
   * @param {TurnView} view
   * @param {string} text
   */
  replace(view, text) {
    const session = this.#session;
    const exchange = this.#exchanges.with(view);
    if (session === null || exchange === undefined) return false;
    const dropped = this.#exchanges.since(exchange);
    if (exchange.turnId === null) {
      // An input that the server refused is in no history; one without an answer yet cannot be named.
      if (!view.isRefused || this.#ask(text, exchange.files) === null) return false;
      this.#exchanges.remove((one) => dropped.includes(one));
      return true;
    }
    if (this.#ask(text, exchange.files, exchange.turnId) === null) return false;
    for (const one of dropped) one.view.element.hidden = true;
    return true;
  }

  /**
   * @param {string} text
   * @param {Chosen[]} files
   * @param {string | null} turnId A turn that the input replaces.
   */
  #ask(text, files, turnId = null) {
    const session = this.#session;
    if (session === null) return null;
    const current = session.current;
    for (const speaker of this.speakers) speaker.hush();
    const cut = current !== null && !this.#isCut(current) ? this.#silence(current) : null;
    if (cut !== null && current !== null) this.#report(current, cut.played);
    let turn;
    try {
      if (turnId !== null) session.rewind(turnId).catch(() => this.#notRewound());
      turn = session.send(text, { attachments: attached(files) });
    } catch {
      if (cut !== null) cut.exchange.view.thaw();
      return null;
    }
    const exchange = this.#exchanges.of(turn.id, turn.inputId) ?? this.#exchanges.add(text, turn.inputId, files);
    exchange.view.element.scrollIntoView({ block: "end" });
    if (cut !== null) this.#thawUnlessReplaced(turn, cut.exchange);
    this.changed();
    return turn;
  }

  /** Shows exchanges that the server did not drop. */
  #notRewound() {
    this.#exchanges.showAll();
    this.announcer.say("The earlier answer could not be replaced.");
    this.changed();
  }

  /** Stops the running answer, unless it is being stopped already. */
  stop() {
    const turn = this.#session?.current;
    // The audio of a turn that has ended may still be playing: then only the audio is stopped.
    if (turn == null) for (const speaker of this.speakers) speaker.hush();
    if (turn == null || this.#isCut(turn)) return;
    const { played, exchange } = this.#silence(turn);
    this.changed();
    turn.interrupt({ ...(played === null ? {} : { played }) }).then(
      (result) => {
        if (result.outcome === "deferred" || result.outcome === "unknown_turn") this.#goOn(exchange);
      },
      () => this.#goOn(exchange),
    );
  }

  /** Pauses the answer, because the user may be about to speak. */
  hold() {
    for (const speaker of this.speakers) speaker.pause(true);
    this.#session?.current?.hold().catch(() => {});
  }

  /** Continues the answer after a false alarm. */
  goOn() {
    for (const speaker of this.speakers) speaker.pause(false);
    this.#session?.current?.resume().catch(() => {});
  }

  /** @param {string} callId @param {boolean} allow */
  decide(callId, allow) {
    this.#session?.sendToolDecision(callId, { allow });
  }

  /** @param {string} callId @param {{output: unknown} | {error: string}} result */
  answer(callId, result) {
    if ("error" in result) this.#session?.sendToolOutput(callId, null, result);
    else this.#session?.sendToolOutput(callId, result.output);
  }

  /** Reports the playback of a turn. @param {string} turnId @param {PlaybackReport} report */
  tellPlayed(turnId, report) {
    const turn = this.#turns.get(turnId);
    if (turn !== undefined) this.#report(turn, report);
  }

  // --- interrupting ----------------------------------------------------------------------------------

  /** Freezes the display and the audio of a turn. @param {ClientTurn} turn */
  #silence(turn) {
    const askedAt = performance.now();
    const exchange = this.#exchanges.of(turn.id, turn.inputId) ?? this.#exchanges.add(turn.input, turn.inputId);
    exchange.view.freeze();
    for (const speaker of this.speakers) speaker.hush();
    this.announcer.hush();
    /** @type {Cut} */
    const cut = {
      turnId: turn.id ?? "", askedAt, silentAt: null, answeredAt: null, outcome: null, endedAt: null, late: [],
    };
    this.#cuts.set(turn.inputId ?? turn.id ?? "", cut);
    if (turn.id !== null) this.#cuts.set(turn.id, cut);
    requestAnimationFrame(() => this.#step(cut, { silentAt: performance.now() }));
    return { exchange, cut, played: this.#playedOf(turn, exchange) };
  }

  /** @param {ClientTurn} turn @param {Exchange} exchange @returns {PlaybackReport | null} */
  #playedOf(turn, { view }) {
    for (const speaker of this.speakers) {
      const played = turn.id === null ? null : speaker.played(turn.id);
      if (played !== null) return played;
    }
    return view.mainLane.text === "" ? null : { chars: countCharacters(view.mainLane.shownText) };
  }

  /** @param {ClientTurn} turn @param {PlaybackReport | null} report */
  #report(turn, report) {
    if (report === null || turn.id === null) return;
    try {
      turn.reportPlayback(report);
    } catch {
      // The session is over, so the report is not needed.
    }
  }

  /** @param {ClientTurn} turn */
  #isCut(turn) {
    return this.#cuts.has(turn.inputId ?? "") || this.#cuts.has(turn.id ?? "");
  }

  /** Continues a turn whose interrupt was deferred or refused. @param {Exchange} exchange */
  #goOn(exchange) {
    if (exchange.view.ended !== null) return;
    exchange.spared = true;
    exchange.view.thaw();
  }

  /** @param {ClientTurn} turn The new one. @param {Exchange} before The one that it was to replace. */
  #thawUnlessReplaced(turn, before) {
    turn.accepted().then(
      (answer) => answer.type === "input.queued" && this.#goOn(before),
      () => this.#goOn(before),
    );
  }

  /** @param {Cut} cut @param {Partial<Cut>} news */
  #step(cut, news) {
    Object.assign(cut, news);
    this.onCut(cut);
  }

  // --- events ----------------------------------------------------------------------------------------

  /** @type {Map<string, ClientTurn>} */
  #turns = new Map();

  /** @param {ClientTurn} turn */
  #watch(turn) {
    turn.accepted().then(
      () => turn.id !== null && this.#turns.set(turn.id, turn),
      (error) => this.#refused(turn, error),
    );
    turn.ended().then(() => this.changed(), () => {});
  }

  /** @param {ClientTurn} turn @param {unknown} error */
  #refused(turn, error) {
    const exchange = this.#exchanges.of(turn.id, turn.inputId);
    if (exchange === undefined || exchange.view.ended !== null) return;
    exchange.view.refuse(error instanceof InputRejected ? error.code : "session_lost");
    this.changed();
  }

  /** @param {SessionEvents["*"]} event */
  #received(event) {
    if (event.type === "session.rewound") {
      this.#exchanges.remove((exchange) => exchange.turnId !== null && event.turns.includes(exchange.turnId));
      return this.changed();
    }
    if (event.type === "transcript.done" && event.input_id != null) {
      this.#said.set(event.input_id, event.text);
    }
    // These events name a turn but do not belong to it.
    if (["session.opened", "interrupt.result"].includes(event.type)) return;
    if (!("turn_id" in event) || event.turn_id == null) return;
    let turnEvent = /** @type {TurnEvent} */ (event);
    const inputId = "input_id" in event ? (event.input_id ?? null) : null;
    const exchange = this.#exchanges.of(event.turn_id, inputId) ?? this.#exchanges.add(this.#said.get(inputId ?? "") ?? null, inputId);
    if (inputId !== null) this.#said.delete(inputId);
    exchange.turnId = event.turn_id;
    exchange.inputId ??= inputId;
    if (turnEvent.type === "turn.ended" && exchange.spared) turnEvent = heardWhole(turnEvent, exchange.view);
    exchange.journal.add(turnEvent);
    for (const speaker of this.speakers) speaker.take(event.turn_id, turnEvent, exchange.view);
    this.#show(exchange, turnEvent, "live");
    if (/^(?:turn|input)\./.test(event.type)) this.changed();
  }

  /** Counts the events that were on their way when the user interrupted. @param {{type: string, turn_id?: string | null, seq?: number, outcome?: string}} event */
  #sawRaw(event) {
    if (event.type === "interrupt.result") {
      const cut = this.#cuts.get(event.turn_id ?? "");
      if (cut !== undefined) this.#step(cut, { answeredAt: performance.now(), outcome: event.outcome ?? null });
      return;
    }
    const cut = event.turn_id == null || !event.seq ? undefined : this.#cuts.get(event.turn_id);
    if (cut === undefined || cut.endedAt !== null || /^(?:turn|input)\./.test(event.type)) return;
    cut.late.push(performance.now());
  }

  /** @param {Exchange} exchange @param {TurnEvent} event @param {When} when */
  #show(exchange, event, when) {
    if ("turn_id" in event) exchange.turnId ??= event.turn_id;
    if (event.type === "client.turn_snapshot") exchange.view.replace(event.state);
    else if (event.type === "turn.ended") this.#end(exchange, event, when);
    else exchange.view.apply(event, when);
  }

  /** @param {Exchange} exchange @param {Ended} ended @param {When} when */
  #end({ view, spared }, ended, when) {
    const cut = this.#cuts.get(ended.turn_id) ?? null;
    if (cut !== null) this.#step(cut, { endedAt: performance.now() });
    const tookMs = cut === null || spared ? null : performance.now() - cut.askedAt;
    view.end(ended, when, tookMs);
    if (when === "restored") return;
    const turn = this.#turns.get(ended.turn_id);
    // The interrupt reported the text until then; the rest was delivered after all.
    if (turn !== undefined && spared && view.mainLane.text !== "") {
      this.#report(turn, { chars: countCharacters(view.mainLane.shownText) });
    }
    const how = ended.status === "failed" ? failure(ended.reason) : outcome(ended, ended.heard?.text ?? "", null);
    this.announcer.end(view.mainLane, ended.status === "completed" ? "" : how, ended.status === "interrupted");
    this.frames.request(view);
  }
}

/**
 * Returns the end of a turn that was delivered completely after an interrupt was deferred. The server has only the
 * report of the interrupt; the next report adds the rest.
 *
 * @param {Ended} ended
 * @param {TurnView} view
 * @returns {Ended}
 */
function heardWhole(ended, view) {
  view.mainLane.render();
  return { ...ended, heard: { ...ended.heard, text: view.mainLane.said } };
}
