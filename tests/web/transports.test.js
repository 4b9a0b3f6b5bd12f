/** The same sessions over Server-Sent Events, and how a client gets in. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";

import { connect, SessionReplaced } from "../../clients/web/bargein/index.js";
import { numbersUpTo, read, said, startRelay, startServer, talkTo, until, WebSocket as RealWebSocket } from "./server.js";

const endings = [];
const { url, port } = await startServer({ after: (end) => endings.push(end) });
after(() => Promise.all(endings.map((end) => end())));

/** Counts how often sockets were asked for, and lets none open. */
function blockedSockets() {
  const sockets = { count: 0 };
  class Blocked extends EventTarget {
    constructor() {
      super();
      sockets.count += 1;
      queueMicrotask(() => this.onclose?.({ code: 1006, reason: "" }));
    }
    close() {}
  }
  return [sockets, Blocked];
}

test("a conversation with an interrupt in the middle, over an event stream", async (t) => {
  const session = await talkTo(t, url, { transport: "sse" });
  const events = await read(session.send("hello there"));
  assert.deepEqual(
    events.map((event) => event.type),
    ["input.accepted", "turn.started", "thought", "tool.call", "tool.confirm", "tool.result", "text.delta", "turn.ended"],
  );
  const turn = session.send("count");
  await until(() => turn.text.length > 50);
  const result = await turn.interrupt({ reason: "barge_in" });
  assert.equal(result.outcome, "interrupted");
  assert.equal((await turn.ended()).reason, "barge_in");
  session.update({ name: "ada" });
  assert.equal(said(await read(session.send("metadata"))), "ada");
  await session.close();
  assert.equal(session.state.name, "closed");
});

test("an event stream that is cut is resumed without a gap", async (t) => {
  const relay = await startRelay(t, port);
  const session = await talkTo(t, relay.url, { transport: "sse" });
  const turn = session.send("slowly");
  for (const length of [10, 40]) {
    await until(() => turn.text.length > length);
    relay.cut();
  }
  assert.equal(numbersUpTo(said(await read(turn))), 40);
});

for (const transport of ["websocket", "sse"]) {
  test(`on a line that breaks again and again everything comes once, and heard is what was shown: ${transport}`, async (t) => {
    let connections = 0;
    const relay = await startRelay(t, port, () => 2000 + ((++connections * 997) % 3000));
    const session = await talkTo(t, relay.url, { transport, environment: { random: () => 0 } });
    for (let n = 0; n < 8; n++) {
      const turn = session.send(n % 2 ? "count" : "slowly");
      let [shown, isSilent] = ["", false];
      turn.on("text.delta", (event) => {
        assert.ok(!isSilent, "nothing stale");
        shown += event.text;
      });
      if (n % 2) {
        await until(() => turn.text.length > n * 10 || turn.end !== null);
        isSilent = true;
        assert.equal((await turn.interrupt()).outcome, "interrupted");
      }
      const { status, heard } = await turn.ended();
      if (status === "interrupted") assert.equal(heard.text, shown);
      else assert.equal(numbersUpTo(shown), 40);
    }
    assert.ok(connections > 5, `${connections} connections`);
  });
}

test("a network that lets no WebSocket through costs nothing but the attempt", async (t) => {
  const relay = await startRelay(t, port);
  const [sockets, WebSocket] = blockedSockets();
  const session = await talkTo(t, relay.url, { WebSocket });
  assert.equal(said(await read(session.send("count 3"))), "0 1 2 ");
  relay.cut();
  await until(() => session.state.name === "reconnecting");
  assert.equal(said(await read(session.send("count 3"))), "0 1 2 ");
  assert.equal(sockets.count, 1, "what worked is taken again");
});

test("where sockets opened before, an event stream comes after three attempts", async (t) => {
  const relay = await startRelay(t, port);
  const [sockets, Blocked] = blockedSockets();
  let isBlocked = false;
  const WebSocket = new Proxy(RealWebSocket, {
    construct: (real, given) => (isBlocked ? new Blocked() : new real(...given)),
  });
  const session = await talkTo(t, relay.url, { WebSocket, environment: { random: () => 0 } });
  isBlocked = true;
  relay.cut();
  assert.equal(said(await read(session.send("count 3"))), "0 1 2 ");
  assert.equal(sockets.count, 4, "three alone, and one with a fallback");
});

test("a session begun on a socket goes on over an event stream, and the newest connection wins", async (t) => {
  const first = await talkTo(t, url, { transport: "websocket" });
  const turn = first.send("slowly");
  await until(() => turn.text.length > 20);
  const resume = JSON.parse(JSON.stringify(first.resumeState()));
  const second = await talkTo(t, url, { transport: "sse", resume });
  await assert.rejects(first.closed(), SessionReplaced);
  const [again] = second.turns;
  await again.ended();
  assert.equal(numbersUpTo(again.text), 40);
  const third = await talkTo(t, url, { transport: "websocket", resume: JSON.parse(JSON.stringify(second.resumeState())) });
  await assert.rejects(second.closed(), SessionReplaced, "a stream tells why it ends, too");
  assert.equal(third.id, second.id);
});

test("what no server of ours says ends the line, not the program", async (t) => {
  const server = http.createServer((request, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.end("event: session.opened\ndata: {\"type\":\"session.opened\"}\n\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const address = `http://127.0.0.1:${server.address().port}`;
  await assert.rejects(talkTo(t, address, { transport: "sse" }), { name: "ConnectError", why: /session.opened.session_id/ });
});

test("an event without an end is dropped, not kept", async (t) => {
  const server = http.createServer((request, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const write = () => response.writable && response.write("x".repeat(2 ** 20), write);
    write();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const address = `http://127.0.0.1:${server.address().port}`;
  await assert.rejects(talkTo(t, address, { transport: "sse" }), { name: "ConnectError", why: /at most 16777216 characters/ });
});

test("a server that asks who is there: a token, a ticket, and neither", async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "bargein-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "tokens");
  writeFileSync(file, "ada secret-of-ada-0123456789\n");
  const { url, port } = await startServer(t, { options: ["--tokens", file] });
  const ticket = async () => {
    const headers = { Authorization: "Bearer secret-of-ada-0123456789" };
    const answer = await fetch(`http://127.0.0.1:${port}/v1/tickets`, { method: "POST", headers });
    return (await answer.json()).ticket;
  };
  const relay = await startRelay(t, port);
  const session = await talkTo(t, relay.url, { ticket });
  relay.cut(); // a ticket is good once: the next connection needs the next one
  await until(() => session.state.name === "reconnecting");
  assert.equal(said(await read(session.send("count 2"))), "0 1 ");
  await talkTo(t, url, { token: "secret-of-ada-0123456789" });
  for (const transport of ["auto", "websocket", "sse"]) {
    await assert.rejects(talkTo(t, url, { transport }), (error) => error.name === "ConnectError" && error.code.name === "unauthorized");
  }
  const streaming = await talkTo(t, url, { transport: "sse", token: "secret-of-ada-0123456789" });
  assert.equal(said(await read(streaming.send("count 2"))), "0 1 ");
});

for (const address of ["localhost:8000", "file:///v1/session", "example", "//example.com", ""]) {
  test(`an address that is no URL of a socket is a ConnectError: ${JSON.stringify(address)}`, async () => {
    await assert.rejects(connect(address, { WebSocket: blockedSockets()[1] }), {
      name: "ConnectError", url: address, why: /this is not a WebSocket URL/,
    });
  });
}

for (const transport of ["auto", "websocket"]) {
  test(`a constructor that throws ends the attempt, not the program: ${transport}`, async (t) => {
    class Refusing {
      constructor() {
        throw new SyntaxError("no such subprotocol");
      }
    }
    const server = http.createServer((request, response) => response.writeHead(418).end());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const address = `http://127.0.0.1:${server.address().port}`;
    const why = transport === "auto" ? /HTTP status 418/ : /no such subprotocol/;
    await assert.rejects(connect(address, { WebSocket: Refusing, transport }), { name: "ConnectError", why });
  });
}

for (const transport of ["auto", "websocket", "sse"]) {
  test(`a handshake that fails without a code was not lost but never made: ${transport}`, async (t) => {
    const server = http.createServer((request) => request.socket.destroy());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const address = `http://127.0.0.1:${server.address().port}`;
    const [, WebSocket] = blockedSockets();
    await assert.rejects(connect(address, { WebSocket, transport }), {
      name: "ConnectError", code: null, why: "the connection could not be made: no server answers there",
    });
    globalThis.location = new URL("https://app.example/chat");
    t.after(() => delete globalThis.location);
    await assert.rejects(connect(address, { WebSocket, transport }), {
      name: "ConnectError", why: /does not allow the origin https:\/\/app\.example/,
    });
  });
}

test("a request that gets no connection renews the stream, whose request carries the event", async (t) => {
  let isStuck = false;
  const { fetch } = globalThis;
  t.after(() => Object.assign(globalThis, { fetch }));
  globalThis.fetch = (address, options) => {
    if (!isStuck || !address.endsWith("/events")) return fetch(address, options);
    return new Promise((_, reject) => options.signal.addEventListener("abort", () => reject(options.signal.reason)));
  };
  const session = await talkTo(t, url, { transport: "sse" });
  isStuck = true;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const turn = session.send("count 3");
  t.mock.timers.tick(9999);
  assert.equal(session.state.name, "open");
  t.mock.timers.tick(1);
  assert.equal(session.state.name, "reconnecting");
  t.mock.timers.tick(500);
  t.mock.timers.reset();
  assert.equal(said(await read(turn)), "0 1 2 ");
  isStuck = false;
});
