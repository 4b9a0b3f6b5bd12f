/** What `npm pack` gives is a package that works: installed elsewhere, it talks to a server, and its types hold. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { startServer } from "./server.js";

const client = fileURLToPath(new URL("../../clients/web", import.meta.url));
const modules = path.join(client, "node_modules");

const PROGRAM = `
import { connect } from "bargein";
import { ClientCore } from "bargein/core";
import { AudioPlayer } from "bargein/audio";
import { WebSocket } from "ws";
const session = await connect(process.argv[2], { WebSocket });
const turn = session.send("count 3");
for await (const event of turn) if (event.type === "text.delta") process.stdout.write(event.text);
await session.close();
console.log(new ClientCore().phase, new AudioPlayer().playing);
`;

const TYPED = `
import { connect, InputRejected, type ClientTurn, type ConnectionState, type ResumeState } from "bargein";
import { AudioPlayer, AudioRecorder, RecorderError, type Played } from "bargein/audio";
const session = await connect("/v1/session", { ticket: async () => "x" });
const turn: ClientTurn = session.send("hello", { onBusy: "queue", metadata: { lang: "en" } });
for await (const event of turn) {
  if (event.type === "text.delta") event.text.length + (event.seq ?? 0);
  if (event.type === "client.turn_snapshot") event.state.lanes[""]?.tools[0]?.arguments.length;
}
const stop: () => void = session.on("tool.confirm", (event) => session.sendToolDecision(event.call_id, { allow: true }));
session.on("state", (state: ConnectionState) => state.name === "reconnecting" && state.retryAt - Date.now());
session.on("turn", (turn) => turn.state.lanes[""]?.text);
await turn.accepted();
const { outcome, heard } = await turn.interrupt({ reason: "barge_in", played: { audioMs: 20 } });
const isOver: boolean = outcome === "interrupted" && heard?.text === turn.text;
const state: ResumeState | null = session.resumeState();
const refused = (error: unknown) => error instanceof InputRejected && error.retryAfterMs;
const player = new AudioPlayer({ onPlayed: (turnId: string, { audioMs, final }: Played) => final && audioMs });
const detach: () => void = player.attach(session);
const recorder = new AudioRecorder({ rate: 16000, onSound: (sound: Int16Array) => session.microphone.send(sound) });
await recorder.start().catch((error: unknown) => error instanceof RecorderError && error.fault === "denied");
// @ts-expect-error: there is no such event
session.on("text.delat", () => {});
// @ts-expect-error: an event has only its own fields
turn.on("status", (event) => event.text);
export { detach, isOver, refused, state, stop };
`;

let folder;

before(() => {
  folder = mkdtempSync(path.join(tmpdir(), "bargein-pack-"));
  process.on("exit", () => rmSync(folder, { recursive: true }));
  execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: client, stdio: "pipe" });
  const [archive] = readdirSync(folder);
  writeFileSync(path.join(folder, "package.json"), '{"type": "module"}');
  execFileSync("npm", ["install", "--silent", "--offline", "--no-audit", "--no-fund", `./${archive}`], { cwd: folder, stdio: "pipe" });
  symlinkSync(path.join(modules, "ws"), path.join(folder, "node_modules", "ws"));
});

test("the package talks to a server", async (t) => {
  const { url } = await startServer(t);
  writeFileSync(path.join(folder, "program.js"), PROGRAM);
  const output = execFileSync("node", ["program.js", url], { cwd: folder, encoding: "utf-8" });
  assert.equal(output, "0 1 2 offline null\n");
});

test("its types hold what its guide says", () => {
  const options = { strict: true, noEmit: true, target: "es2022", module: "nodenext", lib: ["es2022", "dom"], types: [] };
  writeFileSync(path.join(folder, "use.ts"), TYPED);
  writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["use.ts"] }));
  const typescript = createRequire(path.join(modules, "x.js")).resolve("typescript/package.json");
  const compiler = path.join(path.dirname(typescript), "bin", "tsc");
  execFileSync("node", [compiler, "-p", folder], { stdio: "inherit" });
});

test("it depends on nothing, and its code is small", (t) => {
  const installed = path.join(folder, "node_modules", "bargein");
  const manifest = JSON.parse(readFileSync(path.join(installed, "package.json"), "utf-8"));
  assert.equal(manifest.dependencies, undefined);
  const sources = path.join(installed, "bargein");
  const code = readdirSync(sources).filter((file) => file.endsWith(".js")).map((file) => readFileSync(path.join(sources, file), "utf-8").replace(/\/\*\*[^]*?\*\//g, ""));
  const size = gzipSync(code.join("")).length;
  assert.ok(size < 28 * 1024, `expected at most 28 KiB of code without comments, got ${size}`);
  t.diagnostic(`${size} bytes of code, gzipped`);
});
