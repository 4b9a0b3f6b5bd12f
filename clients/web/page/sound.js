/**
 * Sound of the page: plays the audio of turns, and shows how much of each was heard.
 *
 * @module
 */

import { AudioPlayer } from "../bargein/audio/player.js";

/** @import { Played } from "../bargein/audio/index.js" */
/** @import { PlaybackReport, TurnEvent } from "../bargein/types.js" */
/** @import { Speaker } from "./conversation.js" */
/** @import { TurnView } from "./turn_view.js" */

const REPORT_MS = 500;
const MOST_TURNS = 32;

/** @implements {Speaker} */
export class Sound {
  #player;
  /** @type {Map<string, TurnView>} */
  #views = new Map();
  #reportedAt = 0;

  /**
   * @param {object} owner
   * @param {(turnId: string, report: PlaybackReport) => void} owner.report
   * @param {() => void} owner.changed Whether it plays has changed, or whether there is anything to play.
   */
  constructor(owner) {
    this.owner = owner;
    /** Whether the user wants sound. */
    this.isOn = true;
    /** Whether a turn has had audio. */
    this.isWanted = false;
    this.#player = new AudioPlayer({
      onPlayed: (turnId, played) => this.#heard(turnId, played),
      onChange: () => this.owner.changed(),
    });
  }

  /** Whether audio is playing, including that of a turn that has ended on the server. */
  get isSpeaking() {
    return this.#player.playing !== null;
  }

  /** Whether the browser allows playing, which needs a click or a key first. */
  get isAllowed() {
    return this.#player.isAllowed;
  }

  /** Turns sound on or off; to be called from a click. @param {boolean} on */
  turn(on) {
    this.isOn = on;
    if (on) this.#player.resume().then(() => this.owner.changed());
    else this.hush();
    this.owner.changed();
  }

  /** @param {string} turnId @param {TurnEvent} event @param {TurnView} view */
  take(turnId, event, view) {
    if (event.type !== "audio.delta") return this.#player.take(event);
    if (event.source || event.audio === "") return;
    this.isWanted = true;
    if (!this.isOn) return this.owner.changed();
    if (!this.#views.has(turnId)) {
      this.#views.set(turnId, view);
      if (this.#views.size > MOST_TURNS) this.#views.delete(/** @type {string} */ (this.#views.keys().next().value));
      view.mainLane.playedTo(0);
    }
    this.#player.take(event);
  }

  /** @param {boolean} isHeld */
  pause(isHeld) {
    this.#player.pause(isHeld);
  }

  /** Stops the output from the next block on. */
  hush() {
    this.#player.flush();
  }

  /** @param {string} turnId @returns {PlaybackReport | null} */
  played(turnId) {
    const audioMs = this.#player.playedMs(turnId);
    return audioMs === null ? null : { audioMs };
  }

  /** @param {string} turnId @param {Played} played */
  #heard(turnId, { audioMs, sent, played, dropped, paused, final }) {
    const view = this.#views.get(turnId);
    if (view === undefined) return;
    // For tests.
    view.element.dataset.sound = `${sent} samples came, ${played} were played, ${dropped} dropped`;
    if (final) view.soundEnded(audioMs, dropped > 0);
    else view.soundPlayed(audioMs);
    // A hold may become an end, which counts what was reported by then.
    if (!final && !paused && performance.now() - this.#reportedAt < REPORT_MS) return;
    this.#reportedAt = performance.now();
    this.owner.report(turnId, { audioMs });
  }
}
