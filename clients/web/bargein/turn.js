/** @import { AnyEvent, Fold, InterruptOptions, Played, PlaybackReport, ServerEventOf } from "./types.js" */
/** @import { TurnEvent, TurnEvents } from "./types.js" */
/** @import { ClientCore } from "./core.js" */
/** @import { BargeinError } from "./errors.js" */
/** @import { Session } from "./session.js" */
/** @import { TrackedTurn } from "./tracked.js" */

import { Emitter } from "./emitter.js";
import { Answer, Feed } from "./feed.js";
import { isRendered } from "./kinds.js";

/**
 * The answer to one input. Made by `Session.send` or a resume, never by hand.
 *
 * Iterate it for its events, the last of which is its `turn.ended`. Nothing is lost by iterating late: events
 * wait in a bounded buffer, and one that runs full gives a `client.turn_snapshot` with the whole state in
 * place of the events. One loop reads at a time; a second one goes on where the first one stopped.
 * Listeners (`on`) get what comes from then on, in the step in which it comes.
 *
 * @implements {AsyncIterable<TurnEvent>}
 */
export class Turn {
  #session;
  #tracked;
  #feed;
  #emitter = /** @type {Emitter<TurnEvents>} */ (new Emitter());
  #endTaken = false;
  #isIterated = false;
  /** @type {Answer<ServerEventOf<"input.accepted" | "input.queued">>} */
  #accepted = new Answer();
  /** @type {Answer<ServerEventOf<"turn.ended">>} */
  #ended = new Answer();

  /**
   * @param {Session} session
   * @param {TrackedTurn} tracked
   */
  constructor(session, tracked) {
    this.#session = session;
    this.#tracked = tracked;
    this.#feed = new Feed(tracked.inbox);
    tracked.isRendered = () => this.#isIterated || this.#isListened;
    if (tracked.turnId !== null) this.#settleAccepted();
  }

  /** The server's name for the turn; null until the input is accepted or queued. */
  get id() {
    return this.#tracked.turnId;
  }

  /** The id of the input that asked for it; null when this client did not and was not told. */
  get inputId() {
    return this.#tracked.fold.state.input_id ?? this.#tracked.inputId;
  }

  /** What the user said; null for a turn that was asked for elsewhere. */
  get input() {
    return this.#tracked.input;
  }

  /**
   * The text of the turn's own voice so far. After an interrupt it may hold a little more than was
   * delivered; the end's `heard` says what counts.
   */
  get text() {
    return this.#tracked.fold.text;
  }

  /** The picture of everything it said and did, live: it changes with every event. Read only. @returns {Readonly<Fold>} */
  get fold() {
    return this.#tracked.fold.state;
  }

  /** Its end; null while it runs. */
  get end() {
    return this.#tracked.ended;
  }

  /** Whether its output is kept back now: it was interrupted here, and no answer lets it go on. */
  get muted() {
    return this.#tracked.muted;
  }

  /** Resolves when the server has taken the input; rejects with `InputRejected` or `SessionClosed`. */
  get accepted() {
    return this.#accepted.promise;
  }

  /** Resolves with its `turn.ended`; rejects with `InputRejected` when there is no turn, or `SessionClosed`. */
  get ended() {
    return this.#ended.promise;
  }

  /**
   * Calls `listener` with every event of this name, `*` for all, until the function that is returned is called.
   *
   * @template {keyof TurnEvents} T
   * @param {T} type
   * @param {(event: TurnEvents[T]) => void} listener
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  /** @returns {AsyncGenerator<TurnEvent, void, void>} */
  async *[Symbol.asyncIterator]() {
    this.#isIterated = true;
    while (!this.#endTaken) {
      const event = await this.#feed.next();
      if (event === null) return;
      this.#endTaken = event.type === "turn.ended";
      yield /** @type {TurnEvent} */ (event);
    }
  }

  /**
   * Ends the turn now.
   *
   * Its output stops in this step: what was not read yet, and what still comes, is not delivered, unless
   * the server answers that it must be heard (`deferred`). Works before the input is accepted, and while
   * the line is down: then it is the first thing that is said on the next one.
   *
   * Without `played` it reports what was read by iterating or listening, unless the turn speaks or
   * `reportPlayback` was called: then what was reported so far.
   *
   * @param {InterruptOptions} [options]
   * @returns {Promise<ServerEventOf<"interrupt.result">>} The server's answer: `interrupted`, `already_ended`,
   *   `deferred` (it takes effect later) or `unknown_turn`, and what was `heard` where the turn is over.
   *   Rejects with `InputRejected`, `InterruptRefused`, `TooManyPending` or `SessionClosed`; who does not ask
   *   need not catch.
   */
  interrupt(options = {}) {
    return quietly(this.#interrupt(options));
  }

  /** @param {InterruptOptions} options */
  async #interrupt(options) {
    if (this.#tracked.over && this.id === null) await this.accepted; // rejects with what became of the input
    const result = await this.#session.interruptTracked(this.#tracked, options);
    if (result.outcome !== "interrupted" || result.heard) return result;
    // Both leave the server in one write, so that this waits for nothing.
    const { heard } = await this.ended;
    return { ...result, heard };
  }

  /**
   * Stops the output without ending the turn, for a barge-in that is only suspected: `interrupt` makes it
   * final, `resume` takes it back, and the server resumes by itself after about 2 s. Without a line it
   * does nothing.
   */
  hold() {
    return this.#whenAccepted((core) => core.hold(this.#tracked));
  }

  /** Lets a held turn go on from the exact place; nothing of it is lost. */
  resume() {
    return this.#whenAccepted((core) => core.resume(this.#tracked));
  }

  /** Reports what the user has received so far; also welcome after the end of the turn. @param {PlaybackReport} report */
  reportPlayback(report) {
    this.#session.act((core) => core.playback(this.#tracked, played(report)));
  }

  /** @param {(core: ClientCore) => void} what */
  #whenAccepted(what) {
    return quietly(this.accepted.then(() => this.#session.act(what)));
  }

  // --- for the session -------------------------------------------------------------------------------

  /** Gives listeners what waits for them. */
  drain() {
    const isListened = this.#isListened;
    let event;
    while ((event = this.#tracked.listened.take()) !== undefined) {
      if (isListened) this.#tracked.shownSeq = this.#tracked.listened.takenSeq;
      this.#emitter.emit(/** @type {keyof TurnEvents} */ (event.type), /** @type {any} */ (event));
      this.#emitter.emit("*", /** @type {any} */ (event));
    }
  }

  get #isListened() {
    return this.#emitter.hasAny(isRendered) || this.#session.isListened;
  }

  /** @param {AnyEvent} event */
  settle(event) {
    if (event.type !== "turn.ended") {
      this.#accepted.resolve(/** @type {any} */ (event));
      return;
    }
    this.#settleAccepted(); // an end without an answer comes from a snapshot
    this.#ended.resolve(/** @type {any} */ (event));
  }

  /** There is no turn, or it will never be heard of again. @param {BargeinError} error */
  fail(error) {
    this.#feed.close(error);
    this.#accepted.reject(error);
    this.#ended.reject(error);
  }

  #settleAccepted() {
    const { turn_id, input_id } = this.#tracked.fold.state;
    this.#accepted.resolve({ type: "input.accepted", turn_id, input_id: input_id ?? "", duplicate: true });
  }
}

/**
 * @param {PlaybackReport} report
 * @returns {Played}
 */
export function played({ seq, audioMs, chars }) {
  const fields = { seq, audio_ms: audioMs, chars };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/**
 * A promise whose rejection is reported to nobody but those who ask: a stop button that is not interested in the
 * outcome must not fail for the lack of a `catch`.
 *
 * @template T
 * @param {Promise<T>} promise
 */
function quietly(promise) {
  promise.catch(() => {});
  return promise;
}
