/**
 * Audio worklet: plays the samples of one turn at a time and counts them.
 *
 * Runs on the audio thread, in blocks of 128 samples. Messages to it are `play` (samples of a turn), `end` (the turn
 * has no more), `pause`, `go`, and `flush`, which stops the output from the next block on. Messages from it report
 * the number of samples `played` of a turn, and at its end (`final`) the number `dropped`; one comes at once when it is
 * `paused`.
 *
 * @module
 */

/** Number of blocks between two reports, about a tenth of a second. */
const REPORT_BLOCKS = 8;

class Player extends AudioWorkletProcessor {
  /** @type {Float32Array[]} */
  #queue = [];
  #offset = 0;
  /** @type {string | null} */
  #turn = null;
  #played = 0;
  #isOver = false;
  #isPaused = false;
  #blocks = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#told(data);
  }

  /** @param {{type: "play" | "end" | "pause" | "go" | "flush", turn?: string, samples?: Float32Array}} message */
  #told({ type, turn, samples }) {
    if (type === "play" && turn !== undefined && samples !== undefined) {
      if (turn !== this.#turn) this.#begin(turn);
      this.#queue.push(samples);
    } else if (type === "end" && turn === this.#turn) {
      this.#isOver = true;
    } else if (type === "flush") {
      this.#finish();
    } else {
      this.#isPaused = type === "pause";
      if (this.#isPaused && this.#turn !== null) this.#report({ final: false, dropped: 0, paused: true });
    }
  }

  /** @param {string} turn */
  #begin(turn) {
    this.#finish();
    this.#turn = turn;
    this.#played = 0;
    this.#isOver = this.#isPaused = false;
  }

  #finish() {
    if (this.#turn === null) return;
    const dropped = this.#queue.reduce((sum, samples) => sum + samples.length, -this.#offset);
    this.#report({ final: true, dropped });
    this.#queue = [];
    this.#offset = 0;
    this.#turn = null;
  }

  /** @param {{final: boolean, dropped: number, paused?: boolean}} more */
  #report(more) {
    this.port.postMessage({ turn: this.#turn, played: this.#played, ...more });
  }

  /** @param {Float32Array[][]} _inputs @param {Float32Array[][]} outputs */
  process(_inputs, outputs) {
    const out = outputs[0]?.[0];
    if (out === undefined || this.#turn === null || this.#isPaused) return true;
    let filled = 0;
    while (filled < out.length && this.#queue[0] !== undefined) {
      const samples = this.#queue[0];
      const piece = samples.subarray(this.#offset, this.#offset + out.length - filled);
      out.set(piece, filled);
      filled += piece.length;
      this.#offset += piece.length;
      if (this.#offset === samples.length) {
        this.#queue.shift();
        this.#offset = 0;
      }
    }
    this.#played += filled;
    if (this.#isOver && this.#queue.length === 0) this.#finish();
    else if (++this.#blocks % REPORT_BLOCKS === 0) this.#report({ final: false, dropped: 0 });
    return true;
  }
}

registerProcessor("bargein-player", Player);
