/** Connections, one after the other, on lines and in a time that the tests make. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { AccessDenied, ConnectError, ConnectionLost, SessionClosed, SessionReplaced } from "../../clients/web/bargein/index.js";
import { backoff } from "../../clients/web/bargein/backoff.js";
import { opened, resumed, World } from "./world.js";

test("a delay is chosen at random up to a bound that doubles to 30 s", () => {
  const bounds = [1, 2, 3, 4, 5, 6, 7, 8, 1000].map((attempt) => backoff(attempt, 1));
  assert.deepEqual(bounds, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  assert.equal(backoff(3, 0), 0);
});

test("a broken line is taken up again after a delay, which is told", () => {
  const world = new World().open();
  assert.equal(world.states.at(-1).name, "open");
  world.close(1006);
  assert.deepEqual(world.states.at(-1), { name: "reconnecting", attempt: 1, retryAt: world.now + 250, code: "abnormal" });
  world.pass(249);
  assert.equal(world.lines.length, 1);
  world.pass(1);
  assert.equal(world.lines.length, 2);
  world.open(...resumed());
  assert.equal(world.line.sent[0].resume.token, "k_1");
  assert.equal(world.states.at(-1).name, "open");
});

test("delays grow, also when a connection lives for a moment, and begin anew after one that was stable", () => {
  const world = new World().open();
  const delays = [];
  for (let n = 0; n < 3; n++) {
    world.close(1006);
    delays.push(world.states.at(-1).retryAt - world.now);
    world.pass(delays.at(-1));
    world.open(...resumed());
  }
  world.pass(5000);
  world.close(1006);
  delays.push(world.states.at(-1).retryAt - world.now);
  assert.deepEqual(delays, [250, 500, 1000, 250]);
});

test("a user ends the wait, and an attempt that is under way is not begun again", () => {
  const world = new World().open();
  world.session.reconnect();
  assert.equal(world.lines.length, 1);
  world.close(1006);
  world.session.reconnect();
  world.session.reconnect();
  assert.equal(world.lines.length, 2);
  world.pass(10_000 - 1);
  assert.equal(world.lines.length, 2);
  world.open(...resumed());
  assert.equal(world.states.at(-1).name, "open");
  world.session.leave();
  world.session.reconnect();
  assert.equal(world.lines.length, 2);
});

test("goaway is obeyed once", () => {
  const world = new World().open();
  world.say({ type: "goaway", reason: "drain", reconnect_after_ms: 1500 });
  world.close(1012);
  assert.equal(world.states.at(-1).retryAt - world.now, 1500);
  world.pass(1500);
  world.close(1006);
  assert.notEqual(world.states.at(-1).retryAt - world.now, 1500);
});

for (const [number, kind, state] of [
  [1000, SessionClosed, "closed"],
  [4401, AccessDenied, "closed"],
  [4403, AccessDenied, "closed"],
  [4409, SessionReplaced, "replaced"],
]) {
  test(`close code ${number} is the end`, async () => {
    const world = new World().open();
    const turn = world.session.send("hello");
    world.close(number);
    assert.equal(world.states.at(-1).name, state);
    if (kind === SessionClosed) await world.session.closed();
    else await assert.rejects(world.session.closed(), kind);
    await assert.rejects(turn.ended(), kind);
    world.pass(10 ** 6);
    assert.equal(world.lines.length, 1);
    assert.equal(world.notice, null, "nothing is left behind");
    assert.equal(world.timers.size, 0);
  });
}

for (const number of [1001, 1005, 1006, 1007, 1009, 1011, 1012, 1013, 4408, 4410, 4413, 4429, 4431, 4999]) {
  test(`close code ${number} is not the end`, () => {
    const world = new World().open();
    world.close(number);
    assert.equal(world.states.at(-1).name, "reconnecting");
  });
}

test("a first connection that fails is not tried again", async () => {
  const world = new World();
  world.close(1006);
  await assert.rejects(world.opening, ConnectError);
  assert.equal(world.timers.size, 0);
});

test("an outage that lasts too long is the end", async () => {
  const world = new World({ giveUpAfterMs: 60_000 }).open();
  for (let n = 0; n < 100 && world.states.at(-1).name !== "closed"; n++) {
    world.close(1006);
    world.pass(30_000);
  }
  await assert.rejects(world.session.closed(), ConnectionLost);
});

test("what does not fit costs the line, not the session", () => {
  const world = new World().open();
  world.say({ type: "text.delta", seq: 7, turn_id: "t_1", text: "x" });
  assert.equal(world.states.at(-1).name, "reconnecting");
  assert.ok(world.line.aborted);
});

test("a line that is silent for twice the heartbeat is lost", () => {
  const world = new World().open();
  world.pass(29_000);
  world.say({ type: "heartbeat" });
  world.pass(29_999);
  assert.equal(world.states.at(-1).name, "open");
  world.pass(1);
  assert.equal(world.states.at(-1).name, "reconnecting");
  assert.ok(world.line.aborted);
});

test("a line that does not open the session in time is lost", async () => {
  const world = new World();
  world.line.listener.opened();
  world.pass(10_000);
  await assert.rejects(world.opening, ConnectError);
});

test("a device that slept asks before it takes the line for lost", () => {
  const world = new World().open();
  world.pass(3_600_000, true);
  assert.equal(world.sent.at(-1), "ping");
  assert.equal(world.states.at(-1).name, "open");
  world.say({ type: "pong", id: world.line.sent.at(-1).id });
  world.pass(15_000);
  assert.equal(world.states.at(-1).name, "open");
});

test("a device that slept and gets no answer connects again", () => {
  const world = new World().open();
  world.pass(3_600_000, true);
  world.pass(3000);
  assert.equal(world.states.at(-1).name, "reconnecting");
});

for (const news of ["visible", "online", "offline"]) {
  test(`${news}: a line that seems open is asked for a sign of life, and wants it soon`, () => {
    const world = new World().open();
    world.notice(news);
    assert.equal(world.sent.at(-1), "ping");
    world.pass(3000);
    assert.equal(world.states.at(-1).name, "reconnecting");
  });
}

for (const news of ["visible", "online"]) {
  test(`${news}: the next attempt does not wait`, () => {
    const world = new World().open();
    world.close(1006);
    world.notice(news);
    assert.equal(world.lines.length, 2);
    world.open(...resumed()).pass(10_000);
    assert.equal(world.lines.length, 2, "the attempt that was due is not made as well");
  });
}

test("a device that goes offline does not connect at once", () => {
  const world = new World().open();
  world.close(1006);
  world.notice("offline");
  assert.equal(world.lines.length, 1);
});

test("a socket that is full is not given more, and what waits is bounded", () => {
  const world = new World().open();
  world.line.buffered = 2 ** 21;
  const before = world.sent.length;
  for (let n = 0; n < 1024; n++) world.session.sendToolDecision(`c_${n}`, { allow: true });
  assert.throws(() => world.session.sendToolDecision("one more", { allow: true }), { name: "TooManyPending" });
  assert.equal(world.sent.length, before);
  world.line.buffered = 0;
  world.pass(50);
  assert.equal(world.sent.length, before + 1024);
});

test("a listener that asks for something is served in the same step", () => {
  const world = new World().open();
  const turn = world.session.send("one");
  turn.on("text.delta", () => turn.interrupt());
  const heard = [];
  world.session.on("text.delta", (event) => heard.push(event.text));
  world.say(
    { type: "input.accepted", seq: 1, turn_id: "t_1", input_id: turn.inputId },
    { type: "turn.started", seq: 2, turn_id: "t_1", input_id: turn.inputId },
    { type: "text.delta", seq: 3, turn_id: "t_1", text: "cut" },
    { type: "text.delta", seq: 4, turn_id: "t_1", text: "late" },
  );
  assert.deepEqual(heard, [], "whoever is asked after the interrupt hears nothing");
  const interrupts = world.line.sent.filter((event) => event.type === "interrupt");
  assert.deepEqual(interrupts.map(({ turn_id, played }) => [turn_id, played]), [["t_1", { seq: 3 }]]);
});

for (const [who, listen, played] of [
  ["who listens to output", (turn) => turn.on("text.delta", () => {}), { seq: 0 }],
  ["who listens to everything of the session", (turn, session) => session.on("*", () => {}), { seq: 0 }],
  ["who iterates", (turn) => turn[Symbol.asyncIterator]().next(), { seq: 0 }],
  ["who waits for the end alone", (turn) => turn.on("turn.ended", () => {}), undefined],
]) {
  test(`${who} and got nothing before the interrupt ${played ? "has heard nothing" : "does not say what was heard"}`, () => {
    const world = new World().open();
    const turn = world.session.send("one");
    listen(turn, world.session);
    turn.interrupt();
    assert.deepEqual(world.line.sent.at(-1).played, played);
  });
}

test("an interrupt that nobody awaits may fail without harm", async () => {
  const world = new World().open();
  const turn = world.session.send("one");
  turn.interrupt(); // an unhandled rejection would end this program
  turn.hold();
  world.close(4409);
  await assert.rejects(turn.interrupt(), SessionReplaced);
  await new Promise((resolve) => setImmediate(resolve));
});

test("a listener that throws disturbs nobody", (t) => {
  const world = new World().open();
  const uncaught = [];
  globalThis.reportError = (error) => uncaught.push(error.message);
  t.after(() => delete globalThis.reportError);
  const heard = [];
  world.session.on("heartbeat", () => {
    throw new Error("mine");
  });
  const stop = world.session.on("heartbeat", () => heard.push(1));
  world.say({ type: "heartbeat" });
  stop();
  world.say({ type: "heartbeat" });
  assert.deepEqual([heard.length, uncaught], [1, ["mine", "mine"]]);
});

test("a session that is closed without a line is over at once, and one whose server is mute soon", async () => {
  const offline = new World().open();
  offline.close(1006);
  const closing = offline.session.close();
  assert.equal(offline.states.at(-1).name, "closed");
  await closing;
  const mute = new World().open();
  const leaving = mute.session.close();
  assert.equal(mute.sent.at(-1), "session.close");
  mute.pass(2000);
  await leaving;
  assert.equal(mute.timers.size, 0);
});

test("inspectors see every frame, also what is not delivered", () => {
  const world = new World();
  const [came, went] = [[], []];
  world.session.on("event", (event) => came.push(event.type));
  world.session.on("sent", (event) => went.push(event.type));
  world.open();
  const turn = world.session.send("one");
  turn.interrupt();
  const accepted = { type: "input.accepted", seq: 1, turn_id: "t_1", input_id: turn.inputId };
  world.say(accepted, { type: "text.delta", seq: 2, turn_id: "t_1", text: "muted" }, accepted);
  assert.deepEqual(came, ["session.opened", "input.accepted", "text.delta"]);
  assert.deepEqual(went, ["session.open", "input.text", "interrupt"]);
});

test("a server that sends each connection away is asked less and less often", () => {
  const world = new World().open();
  for (let n = 0; n < 40; n++) {
    world.say({ type: "goaway", reason: "drain", reconnect_after_ms: 0 });
    world.close(1012);
    const before = world.lines.length;
    for (let waited = 0; world.lines.length === before && waited < 61_000; waited += 10) world.pass(10);
    world.open(...resumed());
  }
  assert.ok(world.now > 1_000_000 + 30 * 15_000, `${world.now}`);
});

test("numbers of a server that no timer can hold are bounded", () => {
  const world = new World().open();
  world.say({ type: "goaway", reason: "drain", reconnect_after_ms: 10 ** 15 });
  world.close(1012);
  assert.equal(world.states.at(-1).retryAt, world.now + 60_000);
  world.pass(60_000);
  world.open(opened({ resumed: true, heartbeat_ms: 10 ** 12 }), { type: "replay.done", through: 0 });
  assert.ok([...world.timers.values()].every(({ at }) => at - world.now < 2 ** 31));
});

test("no delay is longer than the outage may last", async () => {
  const world = new World({ giveUpAfterMs: 10_000 }).open();
  world.say({ type: "goaway", reason: "drain", reconnect_after_ms: 30_000 });
  world.close(1012);
  assert.equal(world.states.at(-1).retryAt, world.now + 10_000);
  world.pass(10_000);
  world.close(1006);
  await assert.rejects(world.session.closed(), ConnectionLost);
});
