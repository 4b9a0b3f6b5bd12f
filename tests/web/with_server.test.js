/** The client and the real server, over real sockets. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { InputRejected, RewindRefused, SessionClosed, SessionReplaced } from "../../clients/web/bargein/index.js";
import { numbersUpTo, read, said, startRelay, startServer, talkTo, until } from "./server.js";

const endings = [];
const { url, port } = await startServer({ after: (end) => endings.push(end) });
after(() => Promise.all(endings.map((end) => end())));

test("a conversation", async (t) => {
  const session = await talkTo(t, url);
  const heard = [];
  session.on("*", (event) => heard.push(event.type));
  const turn = session.send("hello there");
  assert.equal(turn.id, null);
  assert.deepEqual(session.turns, [turn]);
  const events = await read(turn);
  assert.deepEqual(
    events.map((event) => event.type),
    ["input.accepted", "turn.started", "thought", "tool.call", "tool.confirm", "tool.result", "text.delta", "turn.ended"],
  );
  assert.deepEqual(heard, events.map((event) => event.type));
  assert.equal(turn.text, "hello there");
  assert.equal(turn.state.lanes[""].thoughts, "easy ");
  assert.deepEqual({ ...turn.state.lanes[""].tools[0] }, {
    call_id: "c", name: "echo", arguments: "", given: { text: "hello there" }, state: "completed",
    output: "hello there", error: null, duration_ms: 0, text_at: 0,
  });
  assert.equal((await turn.ended()).status, "completed");
  assert.deepEqual(session.turns, []);
  assert.match(said(await read(session.send("history"))), /hello there \/ .*hello there \/ history/);
});

test("nothing of a turn but its end after interrupt()", async (t) => {
  const session = await talkTo(t, url);
  const turn = session.send("count");
  const after = [];
  let isOver = false;
  session.on("*", (event) => isOver && event.turn_id === turn.id && after.push(event.type));
  turn.on("*", (event) => isOver && after.push(event.type));
  await until(() => turn.text.length > 100);
  const shown = turn.text;
  isOver = true;
  const result = await turn.interrupt({ reason: "barge_in" });
  assert.equal(result.outcome, "interrupted");
  const { reason, heard } = await turn.ended();
  assert.equal(reason, "barge_in");
  assert.deepEqual(result.heard, heard);
  assert.equal(heard.text, shown, "what was delivered is what was heard");
  assert.deepEqual(after.filter((type) => type !== "interrupt.result"), ["turn.ended", "turn.ended"]);
  assert.equal((await turn.interrupt()).outcome, "already_ended");
});

test("an iterator is silent from the interrupt on, also of what waits in its buffer", async (t) => {
  const session = await talkTo(t, url);
  const turn = session.send("count");
  await until(() => turn.text.length > 100);
  turn.interrupt();
  assert.deepEqual((await read(turn)).map((event) => event.type), ["input.accepted", "turn.started", "turn.ended"]);
});

test("a new input interrupts what runs", async (t) => {
  const session = await talkTo(t, url);
  const first = session.send("count");
  await until(() => first.text.length > 20);
  const second = session.send("count 3");
  assert.ok(["withheld", "dropped"].includes(first.delivery));
  assert.equal(said(await read(second)), "0 1 2 ");
  assert.equal((await first.ended()).reason, "superseded");
});

test("a message is edited: its turn is dropped, and the new text stands in its place", async (t) => {
  const session = await talkTo(t, url);
  const rewound = [];
  session.on("session.rewound", (event) => rewound.push(event));
  const first = session.send("count 2");
  await first.ended();
  const rewinding = session.rewind(first.id);
  const second = session.send("history");
  assert.deepEqual((await rewinding).turns, [first.id]);
  assert.doesNotMatch(said(await read(second)), /count/);
  assert.equal(rewound.length, 1);
  await assert.rejects(session.rewind(first.id), (error) => error instanceof RewindRefused && error.code === "unknown_turn");
});

test("files reach the agent, when it takes them", async (t) => {
  const session = await talkTo(t, url);
  assert.deepEqual(session.limits.attachments, ["image/*"]);
  const png = { mediaType: "image/png", data: Uint8Array.from({ length: 20_000 }, (_, at) => at), name: "sky.png" };
  assert.equal(said(await read(session.send("files", { attachments: [png] }))), "image/png sky.png 20000");
  const refused = session.send("files", { attachments: [{ ...png, mediaType: "text/plain" }] });
  await assert.rejects(refused.accepted(), (error) => error instanceof InputRejected && error.code === "unsupported_attachment");
  assert.throws(() => session.send("files", { attachments: Array(9).fill(png) }), /at most 8 attachments, got 9/);
});

test("a turn that is queued, and one that is refused", async (t) => {
  const session = await talkTo(t, url);
  session.send("count");
  const queued = session.send("count 2", { onBusy: "queue" });
  assert.equal((await queued.accepted()).type, "input.queued");
  const refused = session.send("count 2", { onBusy: "reject" });
  await assert.rejects(refused.accepted(), (error) => error instanceof InputRejected && error.code === "busy" && error.retryable);
  await session.interrupt();
  assert.equal(said(await read(queued)), "0 1 ");
});

test("a protected section is heard to its end", async (t) => {
  const session = await talkTo(t, url);
  const turn = session.send("legal");
  await until(() => turn.text.length > 5);
  assert.equal((await turn.interrupt()).outcome, "deferred");
  assert.match(said(await read(turn)), /^you agree to everything/);
});

test("hold and resume go on from the exact place", async (t) => {
  const session = await talkTo(t, url);
  const turn = session.send("slowly");
  turn.on("turn.held", () => turn.resume());
  await until(() => turn.text.length > 20);
  await turn.hold();
  const events = await read(turn);
  const types = events.map((event) => event.type);
  assert.equal(types.indexOf("turn.resumed"), types.indexOf("turn.held") + 1, "nothing is said while it is held");
  assert.equal(numbersUpTo(said(events)), 40);
});

test("a report of what was played cuts the history", async (t) => {
  const session = await talkTo(t, url);
  const turn = session.send("count 50");
  await turn.ended();
  turn.reportPlayback({ chars: 4 });
  const next = session.send("history");
  assert.match(said(await read(next)), /count 50 \/ 0 1 \[interrupted\] \/ history$/);
});

test("values are copied at the call, and one that JSON cannot hold is an error there", async (t) => {
  const relay = await startRelay(t, port);
  const session = await talkTo(t, relay.url);
  const cycle = {};
  cycle.self = cycle;
  for (const value of [1n, cycle]) {
    assert.throws(() => session.send("hello", { metadata: { value } }), TypeError);
    assert.throws(() => session.update({ value }), TypeError);
    assert.throws(() => session.sendToolOutput("c", value), TypeError);
  }
  assert.deepEqual(session.turns, []);
  relay.cut();
  await until(() => session.state.name === "reconnecting");
  const metadata = { name: "ada", list: [] };
  session.update(metadata);
  const turn = session.send("metadata", { metadata });
  session.sendToolOutput("c", metadata.list);
  metadata.name = 1n;
  metadata.list.push(1n);
  assert.equal(said(await read(turn)), "ada");
});

test("lone surrogates are replaced wherever they are", async (t) => {
  const session = await talkTo(t, url);
  session.update({ name: "a\ud800b \\ud800 \u{1f469} \udfff", "\udfff": 1 });
  assert.equal(said(await read(session.send("metadata"))), "a\ufffdb \\ud800 \u{1f469} \ufffd");
  const turn = session.send("count");
  await turn.accepted();
  assert.equal((await turn.interrupt({ reason: "\ud83d" })).outcome, "interrupted");
  assert.equal((await turn.ended()).reason, "\ufffd");
});

test("metadata reaches the agent", async (t) => {
  const session = await talkTo(t, url);
  session.update({ name: "ada" });
  assert.equal(said(await read(session.send("metadata"))), "ada");
});

test("a cut line is resumed without a gap", async (t) => {
  const relay = await startRelay(t, port);
  const session = await talkTo(t, relay.url);
  const states = [];
  session.on("state", ({ name }) => states.push(name));
  const turn = session.send("slowly");
  for (const length of [10, 30, 60]) {
    await until(() => turn.text.length > length);
    relay.cut();
  }
  assert.equal(numbersUpTo(said(await read(turn))), 40);
  assert.deepEqual(states.slice(0, 2), ["reconnecting", "open"]);
});

test("an interrupt on a broken line is silence at once and reaches the server", async (t) => {
  const relay = await startRelay(t, port);
  const session = await talkTo(t, relay.url);
  const turn = session.send("count");
  await until(() => turn.text.length > 20);
  relay.down = true;
  relay.cut();
  await until(() => session.state.name === "reconnecting");
  const interrupting = turn.interrupt();
  relay.down = false;
  assert.equal((await interrupting).outcome, "interrupted");
  assert.equal(said(await read(turn)), "");
});

test("the newest connection wins, and the other does not come back", async (t) => {
  const first = await talkTo(t, url);
  const resume = JSON.parse(JSON.stringify(first.resumeState()));
  const second = await talkTo(t, url, { resume });
  await assert.rejects(first.closed(), SessionReplaced);
  assert.equal(first.state.name, "replaced");
  assert.equal(second.id, first.id);
  assert.throws(() => first.send("x"), SessionClosed);
});

test("a server that restarts loses the session, and says so", async (t) => {
  const server = await startServer(t);
  const session = await talkTo(t, server.url);
  const before = session.id;
  const turn = session.send("count");
  await until(() => turn.text.length > 20);
  await server.stop("SIGKILL");
  await until(() => session.state.name === "reconnecting");
  const lost = session.send("count 1");
  const restarted = new Promise((resolve) => session.on("client.restarted", resolve));
  await startServer(t, { port: server.port });
  assert.equal((await restarted).reason, "unknown_session");
  assert.equal((await turn.ended()).reason, "session_lost");
  await assert.rejects(lost.accepted(), (error) => error.code === "session_lost" && error.retryable);
  await until(() => session.state.name === "open");
  assert.notEqual(session.id, before);
  assert.equal(said(await read(session.send("count 2"))), "0 1 ");
});

test("a server that is stopped says goodbye, and its turn ends", async (t) => {
  const server = await startServer(t);
  const session = await talkTo(t, server.url);
  const turn = session.send("count");
  await until(() => turn.text.length > 20);
  const goaway = new Promise((resolve) => session.on("goaway", resolve));
  await server.stop();
  assert.ok((await goaway).reconnect_after_ms > 0);
  assert.equal((await turn.ended()).reason, "shutdown");
  await until(() => session.state.name === "reconnecting");
});

test("a reload in the middle of an answer goes on with it", async (t) => {
  const relay = await startRelay(t, port);
  const before = await talkTo(t, relay.url);
  const turn = before.send("slowly");
  await until(() => turn.text.length > 30);
  const state = JSON.parse(JSON.stringify(before.resumeState()));
  // A page that is gone does not speak any more: what it had is in `state`.
  const after = await talkTo(t, relay.url, { resume: state });
  const [again] = after.turns;
  assert.equal(again.input, "slowly");
  assert.equal(again.id, turn.id);
  const events = await read(again);
  assert.equal(events[0].type, "client.turn_snapshot");
  assert.equal(events[0].state.lanes[""].text + said(events), again.text);
  assert.equal(numbersUpTo(again.text), 40);
  assert.equal((await again.ended()).status, "completed");
});

test("an interrupt that was not answered before a reload still silences", async (t) => {
  const relay = await startRelay(t, port);
  const before = await talkTo(t, relay.url);
  const turn = before.send("count");
  await until(() => turn.text.length > 20);
  relay.down = true;
  relay.cut();
  await until(() => before.state.name === "reconnecting");
  turn.interrupt().catch(() => {});
  const state = JSON.parse(JSON.stringify(before.resumeState()));
  // The old page's line stays down: coming back, it would drive the session that the new one has taken.
  const after = await talkTo(t, url, { resume: state });
  const [again] = after.turns;
  assert.ok(again === undefined || again.delivery !== "delivered", "it is over, or silent");
  await until(() => after.turns.length === 0);
});

test("a session that is closed is over on both sides", async (t) => {
  const session = await talkTo(t, url);
  const turn = session.send("count");
  await turn.accepted();
  await session.close();
  assert.equal(session.state.name, "closed");
  assert.equal((await turn.ended()).reason, "session_closed");
  assert.equal(session.resumeState(), null);
});
