/**
 * Speech input: the microphone's sound goes to the server, which detects speech, holds and ends the answer, and
 * transcribes. This module captures, shows who speaks and what was understood, and has a key to talk while it is held.
 *
 * @module
 */

import { AudioRecorder, RecorderError } from "../bargein/audio/recorder.js";

/** @import { SessionEvents } from "../bargein/types.js" */
/** @import { ClientSession } from "../bargein/index.js" */

/** Format of the sound that is sent: speech needs no more. */
export const INPUT = { encoding: "pcm16", rate: 16_000 };

/** @import { RecorderFault } from "../bargein/audio/index.js" */

/** Where the level is shown, in decibels below full scale. */
const QUIETEST_DB = -60;

/** @type {Record<RecorderFault, string>} */
const FAULTS = {
  insecure: "Browsers give the microphone only to pages on https:// or on localhost.",
  denied: "This page may not use the microphone. Allow it in the address bar, then press the microphone again.",
  missing: "There is no microphone. Connect one, then press the microphone again.",
  busy: "Another program uses the microphone. Close it, then press the microphone again.",
  failed: "The microphone could not be opened.",
};
const UNPLUGGED = "The microphone was disconnected. Connect it, then press the microphone again.";
const FULL = "The server listens to as many people as it can. Type, or try again in a minute.";

export class Microphone {
  /** @type {ClientSession | null} */
  #session = null;
  #recorder;
  /** Whether it is on only as long as the key is held. */
  #isHeld = false;
  #isSpeaking = false;
  #isOn = false;

  /**
   * @param {object} owner
   * @param {() => void} owner.started The user has asked to talk; the browser allows sound now.
   * @param {(words: string) => void} owner.failed
   * @param {() => void} owner.changed
   * @param {() => boolean} owner.isAnswering Whether the answer is audible.
   * @param {object} elements
   * @param {HTMLElement} elements.bar Shown while the microphone is on.
   * @param {HTMLElement} elements.level
   * @param {HTMLElement} elements.state Who has the floor.
   * @param {HTMLElement} elements.words What was understood so far.
   */
  constructor(owner, { bar, level, state, words }) {
    this.owner = owner;
    this.bar = bar;
    this.level = level;
    this.state = state;
    this.words = words;
    this.#recorder = new AudioRecorder({
      rate: INPUT.rate,
      onSound: (sound, peak) => this.#recorded(sound, peak),
      onEnded: () => this.#fail(UNPLUGGED),
    });
  }

  /** Whether the server hears. */
  get isAble() {
    return this.#session?.microphone.format != null;
  }

  get isOn() {
    return this.#isOn;
  }

  /** Uses this session from now on; null for none. @param {ClientSession | null} session */
  use(session) {
    this.#session = session;
    this.#isSpeaking = false;
    if (session === null) return this.turn(false);
    session.on("*", (event) => this.#session === session && this.#received(event));
  }

  /** Turns the microphone on or off; to be called from a click or a key. @param {boolean} on */
  turn(on) {
    if (on === this.isOn) return;
    this.#isOn = on;
    if (on) {
      this.#open();
      this.owner.started();
    } else {
      this.#close();
    }
    this.draw();
    this.owner.changed();
  }

  /** Talks as long as a key is held. @param {boolean} isDown */
  hold(isDown) {
    if (isDown && !this.isOn) {
      this.#isHeld = true;
      this.turn(true);
    } else if (!isDown && this.#isHeld) {
      this.#isHeld = false;
      if (this.#isSpeaking) this.#commit();
      this.turn(false);
    }
  }

  /** Shows who has the floor. */
  draw() {
    this.bar.hidden = !this.isOn;
    const answering = this.owner.isAnswering() ? "Speak to interrupt" : "Listening";
    const word = this.#isSpeaking ? "You are speaking" : this.#isHeld ? "Speak, then release the key" : answering;
    if (this.state.textContent !== word) this.state.textContent = word;
    this.bar.dataset.floor = this.#isSpeaking ? "user" : this.owner.isAnswering() ? "agent" : "nobody";
  }

  #commit() {
    try {
      this.#session?.microphone.commit();
    } catch {
      // The session is over, and says so itself.
    }
  }

  async #open() {
    try {
      if (this.#session !== null && !this.isAble && AudioRecorder.isPossible) return this.#fail(FULL);
      await this.#recorder.start();
    } catch (error) {
      this.#fail(FAULTS[error instanceof RecorderError ? error.fault : "failed"]);
    }
  }

  #close() {
    this.#isSpeaking = false;
    this.words.textContent = "";
    this.#recorder.stop();
  }

  /** @param {string} words */
  #fail(words) {
    if (!this.#isOn) return;
    this.#isHeld = false;
    this.turn(false);
    this.owner.failed(words);
  }

  /** @param {Int16Array} sound @param {number} peak */
  #recorded(sound, peak) {
    const db = peak > 0 ? 20 * Math.log10(peak) : QUIETEST_DB;
    this.level.style.setProperty("--level", String(Math.max(0, 1 - db / QUIETEST_DB)));
    try {
      this.#session?.microphone.send(sound);
    } catch {
      this.turn(false); // the session is over
    }
  }

  /** @param {SessionEvents["*"]} event */
  #received(event) {
    if (event.type === "speech.started") {
      this.#isSpeaking = true;
      this.words.textContent = "";
    } else if (event.type === "speech.stopped") {
      this.#isSpeaking = false;
    } else if (event.type === "transcript.delta") {
      this.words.textContent += event.text;
    } else if (event.type === "transcript.done") {
      this.words.textContent = "";
    } else {
      return;
    }
    this.draw();
  }
}
