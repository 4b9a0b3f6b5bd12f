/** @import { AnyEvent, Played } from "./types.js" */
/** @import { Bounds } from "./inbox.js" */

import { TurnFold } from "./fold.js";
import { Inbox } from "./inbox.js";

/** What the client knows of one turn, from the moment its input is given to the core. */
export class TrackedTurn {
  /**
   * @param {string | null} inputId Its input; null for a turn that this client did not ask for.
   * @param {Bounds} bounds
   * @param {string | null} input What the user said; null when this client does not know.
   */
  constructor(inputId, bounds, input = null) {
    this.inputId = inputId;
    this.input = input;
    /** Everything it said and did, also what was never delivered. */
    this.fold = new TurnFold("", inputId);
    /** What its iterator has still to take. */
    this.inbox = new Inbox(bounds, () => this.snapshot());
    /** What its listeners have still to get. */
    this.listened = new Inbox(bounds, () => this.snapshot());
    /** It waits behind another turn. */
    this.queued = false;
    /** Ids of the requests that want it ended and have no answer yet. @type {Set<string>} */
    this.muters = new Set();
    /** One of them was heard: nothing of its output is delivered any more. */
    this.silenced = false;
    /** One of them waits for a protected section: the rest of its output is to be heard. */
    this.spared = false;
    /** The application said what was heard. */
    this.reported = false;
    /** The core said it for the application, in an interrupt. */
    this.implied = false;
    /** It ended, or its input was refused; the core has let go of it. */
    this.over = false;
    /** The last number that listeners were given, while there were any that render. */
    this.shownSeq = 0;
    /** Whether anyone renders what it says: what was not given to them was not heard. @type {() => boolean} */
    this.isRendered = () => false;
  }

  /** The server's name for it; null until the input is answered. */
  get turnId() {
    return this.fold.state.turn_id || null;
  }

  /** Its end; null while it runs. */
  get ended() {
    return this.fold.ended;
  }

  /** Whether its output is kept from its consumers now. */
  get muted() {
    return this.silenced || this.muters.size > 0;
  }

  /** Its whole state. @returns {AnyEvent} */
  snapshot() {
    return {
      type: "client.turn_snapshot",
      turn_id: this.fold.state.turn_id,
      state: structuredClone(this.fold.state),
    };
  }

  /** The last number that its consumers have taken: of its iterator if one reads, else of its listeners. */
  get takenSeq() {
    return this.inbox.takenSeq || this.shownSeq;
  }

  /**
   * What its consumers have taken; null when that says nothing about what was heard. Audio is taken long
   * before it is played, and an application that reports for itself, or does not read the turn,
   * knows better.
   *
   * @returns {Played | null}
   */
  taken() {
    const speaks = Object.values(this.fold.state.lanes).some((lane) => lane.audio.length > 0);
    const isKnown = this.takenSeq > 0 || this.isRendered();
    return this.reported || speaks || !isKnown ? null : { seq: this.takenSeq };
  }
}
