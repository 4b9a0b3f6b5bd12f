/** A session in a time and on lines that a test makes. */

import { codeOfClose } from "../../clients/web/bargein/codes.js";
import { ClientCore } from "../../clients/web/bargein/core.js";
import { ClientSession } from "../../clients/web/bargein/session.js";

const LIMITS = { frame_bytes: 262_144, pending: 64, queued: 8 };
export const opened = (fields = {}) => ({
  type: "session.opened", session_id: "s_1", token: "k_1", epoch: "e_1", resumed: false, heartbeat_ms: 15_000, limits: LIMITS, ...fields,
});
export const resumed = () => [opened({ resumed: true, token: "k_2" }), { type: "replay.done", through: 0 }];

/** A world in which time passes only on demand. */
export class World {
  now = 1_000_000;
  chance = 0.5;
  timers = new Map();
  lines = [];
  states = [];
  ids = 0;
  notice = () => {};

  constructor(options = {}) {
    const environment = {
      newId: () => `id_${++this.ids}`,
      random: () => this.chance,
      now: () => this.now,
      setTimer: (act, ms) => {
        const timer = Symbol();
        this.timers.set(timer, { act, at: this.now + ms });
        return timer;
      },
      clearTimer: (timer) => this.timers.delete(timer),
      watch: (notify) => {
        this.notice = notify;
        return () => {
          this.notice = null;
        };
      },
    };
    const connectChannel = (listener) => {
      const line = { listener, sent: [], lastReceivedAt: this.now, buffered: 0, aborted: false };
      line.send = (event) => line.sent.push(event);
      line.abort = () => {
        line.aborted = true;
      };
      this.lines.push(line);
      return line;
    };
    this.session = new ClientSession("ws://x", connectChannel, new ClientCore(), environment, {
      reconnect: true, giveUpAfterMs: 300_000, ...options,
    });
    this.session.on("state", (state) => this.states.push(state));
    this.opening = this.session._open();
    this.opening.catch(() => {});
  }

  get line() {
    return this.lines.at(-1);
  }

  /** What the client sent on its newest line, by type. */
  get sent() {
    return this.line.sent.map((event) => event.type);
  }

  open(...events) {
    this.line.listener.opened();
    this.say(...(events.length ? events : [opened()]));
    return this;
  }

  say(...events) {
    for (const event of events) {
      this.line.lastReceivedAt = this.now;
      this.line.listener.received(event);
    }
  }

  close(number) {
    const code = codeOfClose(number);
    this.line.listener.closed({ code, why: code.reason });
  }

  /** Lets time pass, and timers fire on their time; with `asleep` they all fire when it has passed. */
  pass(ms, asleep = false) {
    const end = this.now + ms;
    if (asleep) this.now = end;
    for (;;) {
      const [timer, next] = [...this.timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (next === undefined || next.at > end) break;
      this.timers.delete(timer);
      this.now = Math.max(this.now, next.at);
      next.act();
    }
    this.now = end;
  }
}
