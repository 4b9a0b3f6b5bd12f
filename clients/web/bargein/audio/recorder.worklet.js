/**
 * Audio worklet: hands the microphone's sound out as PCM16 of another rate, in pieces of 20 ms with their peaks.
 *
 * Runs on the audio thread, in blocks of 128 samples.
 *
 * @module
 */

import { Resampler } from "./resampler.js";

const PIECE_S = 0.02;
class Recorder extends AudioWorkletProcessor {
  #resampler;
  #piece;
  #filled = 0;

  /** @param {{processorOptions: {rate: number}}} options */
  constructor({ processorOptions: { rate } }) {
    super();
    this.#resampler = sampleRate === rate ? null : new Resampler(sampleRate, rate);
    this.#piece = new Float32Array(Math.round(rate * PIECE_S));
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const block = inputs[0]?.[0];
    if (block === undefined) return true;
    for (const sample of this.#resampler === null ? block : this.#resampler.take(block)) {
      this.#piece[this.#filled++] = sample;
      if (this.#filled === this.#piece.length) this.#send();
    }
    return true;
  }

  #send() {
    this.#filled = 0;
    let peak = 0;
    const sound = new Int16Array(this.#piece.length);
    this.#piece.forEach((sample, i) => {
      peak = Math.max(peak, Math.abs(sample));
      sound[i] = Math.max(-32_768, Math.min(32_767, Math.round(sample * 32_768)));
    });
    this.port.postMessage({ sound, peak }, [sound.buffer]);
  }
}

registerProcessor("bargein-recorder", Recorder);
