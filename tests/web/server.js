/** Real counterparts for tests: a bargein server in a process of its own, and a line to it that can be cut. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import net from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { connect } from "../../clients/web/bargein/index.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const python = process.env.PYTHON ?? fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));

/** The constructor of sockets that Node.js 20 lacks. */
export const { WebSocket } = createRequire(new URL("../../clients/web/package.json", import.meta.url))("ws");

/** Waits for a condition; how long is no part of any test. */
export async function until(condition, what = "a condition") {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `waited too long for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** The events of a turn, to its end. */
export async function read(turn) {
  const events = [];
  for await (const event of turn) events.push(event);
  return events;
}

/** The text in a list of events. */
export function said(events) {
  return events.map((event) => (event.type === "text.delta" ? event.text : "")).join("");
}

/** Checks that a text counts without a gap, and returns how far. */
export function numbersUpTo(text) {
  const words = text.trim().split(" ").map(Number);
  assert.deepEqual(words, words.map((_, n) => n), "nothing is missing, doubled or out of order");
  return words.length;
}

/** Starts a server with the agent of `agents.py`; it ends with the test. */
export async function startServer(t, { port = 0, options = [] } = {}) {
  const command = ["-m", "bargein_server", "agents:talker", "--port", String(port), "--drain-s", "0", ...options];
  const server = spawn(python, command, { cwd: here, stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(server, "exit");
  const stop = async (signal = "SIGTERM") => {
    server.kill(signal);
    await exited;
  };
  t.after(() => stop("SIGKILL"));
  const [line] = await once(createInterface(server.stdout), "line");
  server.stdout.resume();
  const url = new URL(line.trim().split(" ").at(-1));
  return { url: `ws://127.0.0.1:${url.port}/v1/session`, port: Number(url.port), stop };
}

/** Connects to a server, without delays when the line breaks; the session ends with the test. */
export async function talkTo(t, url, options = {}) {
  const session = await connect(url, { WebSocket, environment: { random: () => 0.01 }, ...options });
  t.after(() => session.close());
  return session;
}

/**
 * A line to a server that can be cut without a word; with `lifetime`, each connection is cut by itself after
 * so many bytes from the server.
 */
export async function startRelay(t, port, lifetime = () => Infinity) {
  const pairs = new Set();
  const relay = {
    url: "",
    /** Refuses new connections while true. */
    down: false,
    cut() {
      for (const socket of pairs) socket.destroy();
      pairs.clear();
    },
  };
  const listener = net.createServer((near) => {
    if (relay.down) {
      near.destroy();
      return;
    }
    const far = net.connect(port, "127.0.0.1");
    let bytesLeft = lifetime();
    for (const [from, to] of [[near, far], [far, near]]) {
      pairs.add(from);
      from.on("error", () => {});
      from.on("close", () => to.destroy());
      from.on("data", (bytes) => {
        if (from === near) {
          to.write(bytes);
        } else if (bytes.length <= bytesLeft) {
          bytesLeft -= bytes.length;
          to.write(bytes);
        } else {
          to.write(bytes.subarray(0, bytesLeft), () => near.destroy());
          bytesLeft = 0;
        }
      });
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  t.after(() => {
    relay.cut();
    listener.close();
  });
  relay.url = `ws://127.0.0.1:${listener.address().port}/v1/session`;
  return relay;
}
