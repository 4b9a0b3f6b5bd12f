/**
 * A conversation as a file: Markdown for people, JSON for programs.
 *
 * @module
 */

import { el } from "../dom.js";

/** @typedef {{input: string | null, text: string, status: string | null, turnId: string | null}} Exported */

/** Saves a conversation to a file. @param {"markdown" | "json"} form @param {string} title @param {Exported[]} exchanges */
export function save(form, title, exchanges) {
  const [text, type, ending] =
    form === "json"
      ? [asJson(title, exchanges), "application/json", "json"]
      : [asMarkdown(title, exchanges), "text/markdown", "md"];
  const url = URL.createObjectURL(new Blob([text], { type }));
  const name = title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "conversation";
  const link = el("a", { href: url, download: `${name}.${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** @param {string} title @param {Exported[]} exchanges */
function asMarkdown(title, exchanges) {
  const parts = [`# ${title}`];
  for (const { input, text, status } of exchanges) {
    if (input !== null) parts.push("## You", input);
    parts.push("## Agent", text.trim() || "*no text*");
    if (status !== null && status !== "completed") parts.push(`*${status}*`);
  }
  return `${parts.join("\n\n")}\n`;
}

/** @param {string} title @param {Exported[]} exchanges */
function asJson(title, exchanges) {
  const messages = exchanges.flatMap(({ input, text, status, turnId }) => [
    ...(input === null ? [] : [{ role: "user", content: input }]),
    { role: "assistant", content: text, status, turn_id: turnId },
  ]);
  return `${JSON.stringify({ title, exported_at: new Date().toISOString(), messages }, null, 2)}\n`;
}
