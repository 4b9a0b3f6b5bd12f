/**
 * Speech input with the browser's speech recognition.
 *
 * A first sound may be a cough, so it only holds the answer. Words interrupt the answer and become the next input;
 * without words, the answer continues exactly where it stopped. The feature is hidden in browsers without speech
 * recognition.
 *
 * @module
 */

/** Time in which a sound must become words; below the two seconds after which a server ends a hold. */
const DECIDE_MS = 1800;

/** The browser's speech recognition; undefined if there is none. @type {(new () => any) | undefined} */
const Recogniser = /** @type {any} */ (globalThis).SpeechRecognition ?? /** @type {any} */ (globalThis).webkitSpeechRecognition;

/** Whether the browser has speech recognition. */
export const canListen = Recogniser !== undefined;

export class Listening {
  /** @type {any} */
  #recogniser = null;
  #isHeld = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadline;

  /**
   * @param {object} owner
   * @param {() => void} owner.hold Sound: the user may be beginning to speak.
   * @param {() => void} owner.goOn It was nothing.
   * @param {() => void} owner.stop It is speech: the answer is to end.
   * @param {(text: string) => void} owner.send What was said.
   * @param {(words: string) => void} owner.failed
   * @param {() => void} owner.changed
   */
  constructor(owner) {
    this.owner = owner;
  }

  get isOn() {
    return this.#recogniser !== null;
  }

  /** @param {boolean} on */
  turn(on) {
    if (on && Recogniser !== undefined) this.#start(new Recogniser());
    else this.#end();
    this.owner.changed();
  }

  /** @param {any} recogniser */
  #start(recogniser) {
    this.#recogniser = recogniser;
    recogniser.continuous = true;
    recogniser.interimResults = true;
    recogniser.lang = navigator.language;
    recogniser.onspeechstart = () => this.#suspect();
    recogniser.onresult = (/** @type {any} */ event) => this.#heard(event);
    recogniser.onerror = (/** @type {any} */ { error }) => {
      if (error === "no-speech" || error === "aborted") return;
      this.#end();
      this.owner.failed(unheard(error));
      this.owner.changed();
    };
    // Browsers stop after a while, although the user has not turned speech input off.
    recogniser.onend = () => this.#recogniser === recogniser && recogniser.start();
    recogniser.start();
  }

  #end() {
    const recogniser = this.#recogniser;
    this.#recogniser = null;
    recogniser?.abort();
    this.#decide(false);
  }

  #suspect() {
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.owner.hold();
    this.#deadline = setTimeout(() => this.#decide(false), DECIDE_MS);
  }

  /** @param {boolean} isSpeech */
  #decide(isSpeech) {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    clearTimeout(this.#deadline);
    if (isSpeech) this.owner.stop();
    else this.owner.goOn();
  }

  /** @param {any} event */
  #heard(event) {
    for (let i = event.resultIndex; i < event.results.length; i++) {
      const text = event.results[i][0].transcript.trim();
      if (text === "") continue;
      this.#decide(true);
      if (event.results[i].isFinal) this.owner.send(text);
    }
  }
}

/** Returns the text for a failure of speech recognition. @param {string} error */
function unheard(error) {
  if (error === "not-allowed" || error === "service-not-allowed") {
    return "The browser does not let this page use the microphone. Allow it beside the address, or type instead.";
  }
  if (error === "audio-capture") return "There is no microphone. Connect one, or type instead.";
  if (error === "network") return "Speech recognition needs a network connection. Try again later, or type instead.";
  return "Speech recognition does not work in this browser. Type instead.";
}
