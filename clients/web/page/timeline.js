/**
 * Timeline of an interrupt: the request, the last output on the screen, late events, the server's answer, and the end
 * of the turn.
 *
 * @module
 */

import { el, svg } from "./dom.js";

/** @import { Cut } from "./types.js" */

const WIDTH = 360;
const HEIGHT = 96;
const LEFT = 16;
const AXIS = 52;

/** @param {Cut} cut */
export function timeline(cut) {
  const marks = [
    { name: "asked", at: cut.askedAt },
    { name: "silent", at: cut.silentAt },
    { name: "fenced", at: cut.answeredAt },
    { name: "ended", at: cut.endedAt },
  ].flatMap(({ name, at }) => (at === null ? [] : [{ name, ms: at - cut.askedAt }]));
  const late = cut.late.map((at) => at - cut.askedAt);
  const longest = Math.max(20, ...marks.map(({ ms }) => ms), ...late);
  /** @param {number} ms */
  const x = (ms) => LEFT + (ms / longest) * (WIDTH - 2 * LEFT);
  const words = marks.map(({ name, ms }) => `${name} at ${ms.toFixed(1)} ms`).join(", ");
  const lateWords = late.length === 0 ? "" : `; ${late.length === 1 ? "1 late event was" : `${late.length} late events were`} not shown`;
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `The last interrupt: ${words}${lateWords}` },
    svg("line", { x1: LEFT, y1: AXIS, x2: WIDTH - LEFT, y2: AXIS, class: "axis" }),
    ...late.slice(0, 200).map((ms) => svg("line", { x1: x(ms), y1: AXIS - 6, x2: x(ms), y2: AXIS + 6, class: "late" })),
    ...marks.map((mark, index) => drawn(mark, index, x(mark.ms))),
  );
  const caption = el("figcaption", {}, `The last interrupt: ${cut.outcome ?? "ended by what you said next"}${lateWords}`);
  return el("figure", {}, picture, caption);
}

/**
 * @param {{name: string, ms: number}} mark
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
