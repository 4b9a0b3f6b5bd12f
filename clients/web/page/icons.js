/**
 * Icons of the page: one stroke on a grid of 24 by 24.
 *
 * @module
 */

import { svg } from "./dom.js";

/** @type {{[name: string]: string | undefined}} */
const PATHS = {
  // @ts-expect-error no prototype: a status may name its icon "constructor"
  __proto__: null,
  dot: "M12 12h.01",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7z M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z M16 16l5 5",
  speech: "M4 5h16v11H10l-5 4v-4H4z",
  pencil: "M4 20l1-4L16 5l3 3L8 19z M14 7l3 3",
  team: "M9 6a3 3 0 1 0 0 6 3 3 0 0 0 0-6z M3 20c0-4 3-6 6-6s6 2 6 6 M16 6a3 3 0 0 1 0 6 M18 14c2 1 3 3 3 6",
  music: "M9 18V5l11-2v12 M6 15a3 3 0 1 0 0 6 3 3 0 0 0 0-6z M17 12a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  tool: "M14 6a4 4 0 0 0 5 5l-9 9a2 2 0 0 1-4-4l9-9z",
  thought: "M9 18h6 M10 21h4 M12 3a6 6 0 0 0-4 10c1 1 1 2 1 3h6c0-1 0-2 1-3a6 6 0 0 0-4-10z",
  check: "M5 12l5 5L20 7",
  cross: "M6 6l12 12 M18 6L6 18",
  cut: "M6 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6z M6 13a3 3 0 1 0 0 6 3 3 0 0 0 0-6z M9 9l12 8 M9 15l12-8",
  clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z M12 7v5l3 2",
  warning: "M12 4l9 16H3z M12 10v4 M12 17h.01",
  send: "M5 12h14 M13 6l6 6-6 6",
  stop: "M7 7h10v10H7z",
  sound: "M4 9v6h4l5 4V5L8 9z M16 9a4 4 0 0 1 0 6 M18 6a8 8 0 0 1 0 12",
  microphone: "M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3z M6 12a6 6 0 0 0 12 0 M12 18v3",
  inspector: "M4 6h16 M4 12h10 M4 18h13",
  plus: "M12 5v14 M5 12h14",
  menu: "M4 6h16v12H4z M9 6v12",
  bin: "M5 7h14 M10 4h4 M7 7l1 13h8l1-13 M10 11v5 M14 11v5",
  clip: "M19 11l-7.5 7.5a4.5 4.5 0 0 1-6.4-6.4L13 4.3a3 3 0 0 1 4.2 4.2l-7.8 7.8a1.5 1.5 0 0 1-2.1-2.1L14 7.5",
  info: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z M12 11v5 M12 8h.01",
  settings: "M4 7h9 M17 7h3 M15 5a2 2 0 1 0 0 4 2 2 0 0 0 0-4z M4 17h3 M11 17h9 M9 15a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  question: "M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2 M12 17h.01 M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
};

/** One emoji, whole: with its variation, skin tone and joined parts. */
const EMOJI = /^(?:\p{Extended_Pictographic}|\p{Regional_Indicator}{2}|[#*0-9]\uFE0F\u20E3)[\p{Emoji_Modifier}\p{Extended_Pictographic}\u200D\uFE0F]*$/u;

/**
 * Returns an icon by its name, or an emoji as it is; anything else gives a dot. Hidden from screen readers, which read
 * the text beside it.
 *
 * @param {string} name
 */
export function icon(name) {
  if (PATHS[name] === undefined && name.length <= 32 && EMOJI.test(name)) {
    const sign = document.createElement("span");
    sign.className = "icon emoji";
    sign.ariaHidden = "true";
    sign.textContent = name;
    return sign;
  }
  const path = svg("path", { d: PATHS[name] ?? "M12 12h.01" });
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, path);
}

/** Adds the icons of elements with `data-icon`. @param {ParentNode} root */
export function placeIcons(root) {
  for (const place of root.querySelectorAll("[data-icon]")) {
    place.prepend(icon(place.getAttribute("data-icon") ?? ""));
  }
}
