/**
 * Changes the rate of a stream of samples.
 *
 * The sound is low-pass filtered by a windowed sinc, so that what lies above half of a lower rate does not fold into
 * speech. The delay is a millisecond.
 *
 * @module
 */

/** Zero crossings of the sinc on each side. */
const LOBES = 16;
/** Positions between two samples for which the filter is prepared. */
const PHASES = 64;
/** Pass band as a share of half of the lower rate; the rest is the filter's slope. */
const PASS = 0.9;

/** Converts a stream of samples to another rate. */
export class Resampler {
  #ratio;
  #reach;
  /** @type {Float32Array[]} */
  #filters = [];
  #buffer;
  /** Position of the next output in the buffer, in input samples. */
  #at;

  /** @param {number} from @param {number} to Rates in samples per second. */
  constructor(from, to) {
    this.#ratio = from / to;
    const cutoff = (PASS * Math.min(from, to)) / from;
    this.#reach = Math.ceil(LOBES / cutoff);
    for (let phase = 0; phase <= PHASES; phase++) this.#filters.push(filter(this.#reach, cutoff, phase / PHASES));
    this.#buffer = new Float32Array(this.#reach);
    this.#at = this.#reach;
  }

  /** Returns the samples that a further piece completes. @param {Float32Array} samples */
  take(samples) {
    const all = new Float32Array(this.#buffer.length + samples.length);
    all.set(this.#buffer);
    all.set(samples, this.#buffer.length);
    const made = [];
    for (; this.#at + this.#reach < all.length; this.#at += this.#ratio) {
      const whole = Math.floor(this.#at);
      const taps = /** @type {Float32Array} */ (this.#filters[Math.round((this.#at - whole) * PHASES)]);
      let sum = 0;
      const first = whole - this.#reach + 1;
      for (let i = 0; i < taps.length; i++) sum += /** @type {number} */ (taps[i]) * /** @type {number} */ (all[first + i]);
      made.push(sum);
    }
    const kept = Math.max(0, Math.floor(this.#at) - this.#reach);
    this.#buffer = all.slice(kept);
    this.#at -= kept;
    return Float32Array.from(made);
  }
}

/**
 * Returns the weights of the samples around a position.
 *
 * @param {number} reach Samples on each side.
 * @param {number} cutoff Share of half of the input's rate.
 * @param {number} fraction Position after the sample in the middle, from 0 to 1.
 */
function filter(reach, cutoff, fraction) {
  const taps = new Float32Array(2 * reach);
  let sum = 0;
  for (let i = 0; i < taps.length; i++) {
    const x = i - reach + 1 - fraction;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
    const window = Math.abs(x) >= reach ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / reach);
    sum += taps[i] = sinc * window;
  }
  return taps.map((tap) => tap / sum);
}
