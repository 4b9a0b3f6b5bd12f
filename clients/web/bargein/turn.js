/** @import { AnyEvent, FullTurnState, InterruptOptions, Played, PlaybackReport, ServerEventOf } from "./types.js" */
/** @import { TurnEvent, TurnEvents } from "./types.js" */
/** @import { ClientCore } from "./core.js" */
/** @import { BargeinError } from "./errors.js" */
/** @import { ClientSession } from "./session.js" */
/** @import { TrackedTurn } from "./tracked_turn.js" */

import { Emitter } from "./emitter.js";
import { EventReader, SharedResult } from "./event_reader.js";
import { isRendered } from "./kinds.js";

/**
 * The answer to one input; made by `ClientSession.send` or by a resume.
 *
 * Iterate the turn for its events; the last one is its `turn.ended`. Events wait in a bounded buffer, so iterating
 * late loses nothing. A buffer that runs full yields a `client.turn_snapshot` with the whole state in place of the
 * events. One loop reads at a time; a second one continues where the first one stopped. Listeners (`on`) get later
 * events as they arrive.
 *
 * @implements {AsyncIterable<TurnEvent>}
 */
export class ClientTurn {
  #session;
  #tracked;
  #reader;
  #emitter = /** @type {Emitter<TurnEvents>} */ (new Emitter());
  #endTaken = false;
  #isIterated = false;
  /** @type {SharedResult<ServerEventOf<"input.accepted" | "input.queued">>} */
  #accepted = new SharedResult();
  /** @type {SharedResult<ServerEventOf<"turn.ended">>} */
  #ended = new SharedResult();

  /**
   * @param {ClientSession} session
   * @param {TrackedTurn} tracked
   */
  constructor(session, tracked) {
    this.#session = session;
    this.#tracked = tracked;
    this.#reader = new EventReader(tracked.inbox);
    tracked.isRendered = () => this.#isIterated || this.#isListened;
    if (tracked.turnId !== null) this.#settleAccepted();
    if (tracked.ended !== null) this.#ended.resolve(tracked.ended);
  }

  /** Id given by the server; null until the input is accepted or queued. */
  get id() {
    return this.#tracked.turnId;
  }

  /** Id of the input; null if unknown, for a turn of another client. */
  get inputId() {
    return this.#tracked.fold.state.input_id ?? this.#tracked.inputId;
  }

  /** Text of the input; null for a turn of another client. */
  get input() {
    return this.#tracked.input;
  }

  /**
   * Text of the main lane so far. After an interrupt it may be a little longer than the delivered text; `end.heard`
   * is decisive.
   */
  get text() {
    return this.#tracked.text;
  }

  /** All events so far, folded into one state. Live: it changes with every event. Read only. @returns {Readonly<FullTurnState>} */
  get state() {
    return this.#tracked.fold.state;
  }

  /** The `turn.ended` event; null while the turn runs. */
  get end() {
    return this.#tracked.ended;
  }

  /** Whether the turn's output is delivered, withheld or dropped now. */
  get delivery() {
    return this.#tracked.delivery;
  }

  /**
   * Waits until the server has accepted or queued the input. Rejects with `InputRejected` or `SessionClosed`; a
   * rejection without a handler is not reported.
   */
  accepted() {
    return this.#accepted.promise;
  }

  /**
   * Waits for the end and resolves with the `turn.ended` event; the turn need not be iterated. Rejects with
   * `InputRejected` when there is no turn, or `SessionClosed`; a rejection without a handler is not reported.
   */
  ended() {
    return this.#ended.promise;
  }

  /**
   * Calls `listener` with every event of this name; `*` is every event.
   *
   * @template {keyof TurnEvents} T
   * @param {T} type
   * @param {(event: TurnEvents[T]) => void} listener
   * @returns {() => void} A function that removes the listener.
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  /** @returns {AsyncGenerator<TurnEvent, void, void>} */
  async *[Symbol.asyncIterator]() {
    this.#isIterated = true;
    while (!this.#endTaken) {
      const event = await this.#reader.next();
      if (event === null) return;
      this.#endTaken = event.type === "turn.ended";
      yield /** @type {TurnEvent} */ (event);
    }
  }

  /**
   * Ends the turn now.
   *
   * Delivery of the turn's output stops immediately: waiting and future output is delivered only if the server
   * defers the interrupt. An interrupt is possible before the input is accepted, and while the connection is down:
   * then it is part of the first frame on the next one.
   *
   * Without `played` it reports the events read by iterating or listening, unless the turn has audio or
   * `reportPlayback` was called; then the reports so far count.
   *
   * @param {InterruptOptions} [options]
   * @returns {Promise<ServerEventOf<"interrupt.result">>} The outcome: `interrupted`, `already_ended`, `deferred` (the
   *   interrupt takes effect later) or `unknown_turn`; and `heard` if the turn is over. Rejects with `InputRejected`,
   *   `InterruptRefused`, `TooManyPending` or `SessionClosed`; a rejection without a handler is not reported.
   */
  interrupt(options = {}) {
    return quietly(this.#interrupt(options));
  }

  /** @param {InterruptOptions} options */
  async #interrupt(options) {
    if (this.#tracked.over && this.id === null) await this.accepted(); // rejects with the reason why there is no turn
    const result = await this.#session._interrupt(this.#tracked, options);
    if (result.outcome !== "interrupted" || result.heard) return result;
    // The end of the turn is in the same write of the server as the result.
    const { heard } = await this.ended();
    return { ...result, heard };
  }

  /**
   * Pauses the output without ending the turn; resolves when the request is on its way. For a suspected barge-in:
   * `interrupt` confirms it, `resume` takes it back. The server resumes automatically after about 2 s. Without a
   * connection the call has no effect.
   */
  hold() {
    return this.#whenAccepted((core) => core.hold(this.#tracked));
  }

  /** Resumes a held turn exactly where it stopped. */
  resume() {
    return this.#whenAccepted((core) => core.resume(this.#tracked));
  }

  /** Reports how much of the turn the user has received; also after the end of the turn. @param {PlaybackReport} report */
  reportPlayback(report) {
    this.#session._act((core) => core.playback(this.#tracked, played(report)));
  }

  /** @param {(core: ClientCore) => void} call */
  #whenAccepted(call) {
    return quietly(this.accepted().then(() => this.#session._act(call)));
  }

  // --- for the session -------------------------------------------------------------------------------

  /** Calls listeners with the waiting events. @internal */
  _drain() {
    const isListened = this.#isListened;
    let event;
    while ((event = this.#tracked.listened.take()) !== undefined) {
      if (isListened) this.#tracked.shownSeq = this.#tracked.listened.takenSeq;
      this.#emitter.emit(/** @type {keyof TurnEvents} */ (event.type), /** @type {any} */ (event));
      this.#emitter.emit("*", /** @type {any} */ (event));
    }
  }

  get #isListened() {
    return this.#emitter.hasAny(isRendered) || this.#session._isListened;
  }

  /** @internal @param {AnyEvent} event */
  _settle(event) {
    if (event.type !== "turn.ended") {
      this.#accepted.resolve(/** @type {any} */ (event));
      return;
    }
    this.#settleAccepted(); // an end without an answer comes from a snapshot
    this.#ended.resolve(/** @type {any} */ (event));
  }

  /** Rejects the results: there is no turn, or its end will stay unknown. @internal @param {BargeinError} error */
  _fail(error) {
    this.#reader.close(error);
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
 * Returns a promise whose rejection is not reported without a handler: a stop button that ignores the outcome must
 * not need a `catch`.
 *
 * @template T
 * @param {Promise<T>} promise
 */
function quietly(promise) {
  promise.catch(() => {});
  return promise;
}
