/** The pure half of the client has no socket, no clock and no chance in it, and modules stay readable. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const PURE = [
  "codec", "codes", "core", "delivery", "errors", "event_stream_parser", "fold", "inbox", "kinds", "microphone", "outbox", "phases", "saved", "send_queue",
  "sequence", "shapes", "tracked_turn", "turn_registry",
];
const IMPURE = /\b(setTimeout|setInterval|queueMicrotask|Promise|Date|Math\.random|crypto|performance|fetch|WebSocket|window|document|navigator)\b/;

const folder = new URL("../../clients/web/bargein/", import.meta.url);
const sources = new Map(
  readdirSync(folder)
    .filter((file) => file.endsWith(".js"))
    .map((file) => [file.slice(0, -3), readFileSync(new URL(file, folder), "utf-8")]),
);

for (const name of PURE) {
  test(`${name}.js is pure`, () => {
    const code = sources.get(name).replace(/\/\*\*[^]*?\*\//g, "").replace(/"[^"\n]*"/g, "");
    assert.doesNotMatch(code, IMPURE);
    const imported = [...sources.get(name).matchAll(/^(?:import|export) .* from "\.\/(\w+)\.js";$/gm)].map(([, module]) => module);
    assert.deepEqual(imported.filter((module) => !PURE.includes(module)), []);
  });
}

test("no module needs more than the platform gives", () => {
  for (const [name, source] of sources) {
    for (const [, from] of source.matchAll(/^(?:import|export) .* from "(.+)";$/gm)) assert.match(from, /^\.\//, name);
  }
});

test("no module has more than 400 lines", () => {
  for (const [name, source] of sources) assert.ok(source.split("\n").length <= 401, name);
});
