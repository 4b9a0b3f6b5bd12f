/**
 * Timelines of an interrupt and of a barge-in by voice.
 *
 * @module
 */

import { el, svg } from "./dom.js";

/** @import { BargeIn, Cut } from "./types.js" */

const WIDTH = 360;
const HEIGHT = 96;
const LEFT = 16;
const AXIS = 52;

/**
 * Draws an interrupt: the request, the last output on the screen, late events, the server's answer, and the end of the
 * turn.
 *
 * @param {Cut} cut
 */
export function timeline(cut) {
  const marks = since(cut.askedAt, [
    ["asked", cut.askedAt],
    ["silent", cut.silentAt],
    ["fenced", cut.answeredAt],
    ["ended", cut.endedAt],
  ]);
  const late = cut.late.map((at) => at - cut.askedAt);
  const lateWords = late.length === 0 ? "" : `; ${late.length === 1 ? "1 late event was" : `${late.length} late events were`} not shown`;
  const caption = `The last interrupt: ${cut.outcome ?? "ended by what you said next"}${lateWords}`;
  return figure("The last interrupt", marks, late, lateWords, caption);
}

/**
 * Draws a barge-in by voice: the first sound, the pause of the answer, the verdict, the transcript, the next answer.
 *
 * @param {BargeIn} bargeIn
 */
export function speechTimeline(bargeIn) {
  const { verdict } = bargeIn;
  const marks = since(bargeIn.onsetAt, [
    ["spoke", bargeIn.onsetAt],
    ["silent", bargeIn.heldAt],
    [verdict ?? "", bargeIn.decidedAt],
    ["understood", bargeIn.understoodAt],
    ["answered", bargeIn.answeredAt],
  ]);
  const words = { ended: "you interrupted the answer", resumed: "the answer went on", "": "the answer waits" };
  return figure("The last barge-in", marks, [], "", `The last barge-in: ${words[verdict ?? ""]}`);
}

/**
 * @typedef {{name: string, ms: number}} Mark
 */

/** @param {number} start @param {[name: string, at: number | null][]} times @returns {Mark[]} */
function since(start, times) {
  return times.flatMap(([name, at]) => (at === null ? [] : [{ name, ms: at - start }]));
}

/** @param {string} title @param {Mark[]} marks @param {number[]} late @param {string} lateWords @param {string} caption */
function figure(title, marks, late, lateWords, caption) {
  const longest = Math.max(20, ...marks.map(({ ms }) => ms), ...late);
  /** @param {number} ms */
  const x = (ms) => LEFT + (ms / longest) * (WIDTH - 2 * LEFT);
  const words = marks.map(({ name, ms }) => `${name} at ${ms.toFixed(1)} ms`).join(", ");
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${words}${lateWords}` },
    svg("line", { x1: LEFT, y1: AXIS, x2: WIDTH - LEFT, y2: AXIS, class: "axis" }),
    ...late.slice(0, 200).map((ms) => svg("line", { x1: x(ms), y1: AXIS - 6, x2: x(ms), y2: AXIS + 6, class: "late" })),
    ...marks.map((mark, index) => drawn(mark, index, x(mark.ms))),
  );
  return el("figure", {}, picture, el("figcaption", {}, caption));
}

/**
 * @param {Mark} mark
 * @param {number} index Above and below the axis by turns, so that names do not run into each other.
 * @param {number} x
 */
function drawn({ name, ms }, index, x) {
  const y = [16, 88, 34, 72][index % 4] ?? 16;
  const anchor = x < WIDTH / 4 ? "start" : x > (3 * WIDTH) / 4 ? "end" : "middle";
  return svg(
    "g",
    { class: `mark ${name}` },
    svg("line", { x1: x, y1: AXIS, x2: x, y2: y < AXIS ? y + 3 : y - 10 }),
    svg("circle", { cx: x, cy: AXIS, r: 3.5 }),
    svg("text", { x, y, "text-anchor": anchor }, `${name} ${ms.toFixed(1)} ms`),
  );
}
