/**
 * Records the microphone of a page as PCM16, with the echo of the loudspeaker cancelled.
 *
 * @module
 */

import { BargeinError } from "../errors.js";

/**
 * Cause of a `RecorderError`: `insecure` (not https and not localhost), `denied`, `missing` (no microphone), `busy`
 * (another program uses it), `failed`.
 *
 * @typedef {"insecure" | "denied" | "missing" | "busy" | "failed"} RecorderFault
 */

/** @type {Record<string, RecorderFault>} */
const FAULTS = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
};

/** The browser gives no microphone. */
export class RecorderError extends BargeinError {
  /** @param {RecorderFault} fault */
  constructor(fault) {
    super(`the browser gives no microphone: ${fault}`);
    /** The cause. */
    this.fault = fault;
  }
}

/** Sound of a running recording. @typedef {{stream: MediaStream, context: AudioContext}} Capture */

/** Microphone of a page. */
export class AudioRecorder {
  /** @type {Promise<Capture> | null} */
  #capture = null;
  /** Grows with each start and stop, so that a recording knows whether it is wanted. */
  #number = 0;
  #onSound;
  #onEnded;

  /**
   * @param {object} options
   * @param {number} options.rate Samples per second of the sound, such as `session.microphone.format.rate`.
   * @param {(sound: Int16Array, peak: number) => void} options.onSound Called every 20 ms with mono samples of PCM16 and
   *   their peak, from 0 to 1.
   * @param {() => void} [options.onEnded] Called when the microphone was disconnected, or the user has forbidden it; the
   *   recording has stopped then.
   */
  constructor({ rate, onSound, onEnded = () => {} }) {
    /** Samples per second of the sound. */
    this.rate = rate;
    this.#onSound = onSound;
    this.#onEnded = onEnded;
  }

  /** Whether browsers give a microphone to this page at all: one on https or localhost. */
  static get isPossible() {
    return typeof navigator.mediaDevices?.getUserMedia === "function";
  }

  /** Whether it records, or is about to. */
  get isOn() {
    return this.#capture !== null;
  }

  /**
   * Begins to record; the browser may ask the user. To be called from the listener of a click or a key.
   *
   * Rejects with a `RecorderError`. A `stop` meanwhile releases the microphone, and this resolves.
   */
  async start() {
    if (this.#capture !== null) return;
    const capture = this.#open(++this.#number);
    this.#capture = capture;
    try {
      await capture;
    } catch (error) {
      if (this.#capture === capture) this.#capture = null;
      throw error;
    }
  }

  /** Stops recording, and releases the microphone. */
  stop() {
    const closing = this.#capture;
    this.#capture = null;
    this.#number++;
    closing?.then(release, () => {});
  }

  /** @param {number} number @returns {Promise<Capture>} */
  async #open(number) {
    if (!AudioRecorder.isPossible) throw new RecorderError("insecure");
    let stream;
    try {
      const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new RecorderError(FAULTS[error instanceof DOMException ? error.name : ""] ?? "failed");
    }
    const isCurrent = () => number === this.#number;
    for (const track of stream.getAudioTracks()) {
      track.addEventListener("ended", () => {
        if (!isCurrent()) return;
        this.stop();
        this.#onEnded();
      });
    }
    // The context's own rate: not every browser connects a microphone to a context of another one.
    const context = new AudioContext({ latencyHint: "interactive" });
    const capture = { stream, context };
    try {
      await context.audioWorklet.addModule(new URL("recorder.worklet.js", import.meta.url));
    } catch {
      release(capture);
      throw new RecorderError("failed");
    }
    const node = new AudioWorkletNode(context, "bargein-recorder", {
      numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit", processorOptions: { rate: this.rate },
    });
    node.port.onmessage = ({ data }) => isCurrent() && this.#onSound(data.sound, data.peak);
    context.createMediaStreamSource(stream).connect(node);
    context.resume().catch(() => {});
    return capture;
  }
}

/** @param {Capture} capture */
function release({ stream, context }) {
  for (const track of stream.getTracks()) track.stop();
  context.close().catch(() => {});
}
