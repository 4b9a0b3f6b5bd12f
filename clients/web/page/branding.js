/**
 * Appearance from the server's configuration (`page.json`): title, greeting, examples, colour, logo.
 *
 * @module
 */

import { byId, el, say } from "./dom.js";

/**
 * @typedef {object} Branding
 * @property {string} title
 * @property {string} greeting
 * @property {string[]} examples
 * @property {string | null} accent As `#rrggbb`.
 * @property {string | null} logo A data URL.
 * @property {string | null} login Address of the application's own login.
 * @property {boolean} lists Whether the server lists the conversations of authenticated users.
 */

/** Contrast of text that is easy to read (WCAG 2.2, 1.4.3). */
const READABLE = 4.5;
const LIGHT = [251, 250, 248];
const DARK = [22, 24, 28];

/** Returns the configuration; null when the server has none. @returns {Promise<Branding | null>} */
export async function branding() {
  try {
    const answer = await fetch("page.json");
    return answer.ok ? await answer.json() : null;
  } catch {
    return null; // the connection says what is wrong
  }
}

/** Applies a configuration. @param {Branding} branding */
export function apply({ title, greeting, examples, accent, logo }) {
  document.title = title;
  say(byId("title"), title);
  say(byId("greeting"), greeting);
  byId("examples").replaceChildren(...examples.map((text) => el("button", { type: "button", dir: "auto" }, text)));
  if (logo !== null) {
    byId("logo").setAttribute("src", logo);
    document.querySelector("link[rel=icon]")?.setAttribute("href", logo);
  }
  if (accent !== null) paint(accent);
}

/** @param {string} accent */
function paint(accent) {
  const colour = [1, 3, 5].map((at) => parseInt(accent.slice(at, at + 2), 16));
  const onLight = readable(colour, LIGHT, [0, 0, 0]);
  const onDark = readable(colour, DARK, [255, 255, 255]);
  const { style } = document.documentElement;
  style.setProperty("--accent", `light-dark(${css(onLight)}, ${css(onDark)})`);
  style.setProperty("--on-accent", "light-dark(#ffffff, #10142a)");
  style.setProperty("--tint", `light-dark(${css(mixed(LIGHT, onLight, 0.12))}, ${css(mixed(DARK, onDark, 0.22))})`);
}

/** Returns a colour that is readable on a ground: mixed with black or white, as little as possible. @param {number[]} colour @param {number[]} ground @param {number[]} end */
function readable(colour, ground, end) {
  for (let part = 0; part < 1; part += 0.05) {
    const candidate = mixed(colour, end, part);
    if (contrast(candidate, ground) >= READABLE) return candidate;
  }
  return end;
}

/** @param {number[]} from @param {number[]} to @param {number} part */
function mixed(from, to, part) {
  return from.map((value, at) => Math.round(value + ((to[at] ?? 0) - value) * part));
}

/** Returns the contrast of two colours (WCAG 2.2). @param {number[]} a @param {number[]} b */
function contrast(a, b) {
  const [lighter, darker] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return ((lighter ?? 0) + 0.05) / ((darker ?? 0) + 0.05);
}

/** @param {number[]} colour */
function luminance(colour) {
  const [r = 0, g = 0, b = 0] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** @param {number[]} colour */
function css(colour) {
  return `rgb(${colour.join(" ")})`;
}
