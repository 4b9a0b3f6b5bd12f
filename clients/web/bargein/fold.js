/**
 * Folds a turn's events into its state, as the server does for its snapshots.
 *
 * Folding is idempotent: an event whose number is not above the last one is ignored, so a replay does no harm.
 * A fold is bounded: text, calls, spans of audio, names of data and lanes beyond their bounds are left out.
 *
 * @module
 */

/** @import { AnyEvent, FullTurnState, TurnState, Lane, Outputs, ServerEventOf, Tool } from "./types.js" */

import { countCharacters, firstCharacters, isOutput, isUnknown } from "./kinds.js";

const MAX_TEXT_CHARS = 2 ** 20;
const MAX_LANES = 256;
const MAX_TOOLS = 4096;
const MAX_SPANS = 65_536;
const MAX_KEYS = 1024;

/** The events of one turn, folded as they arrive. */
export class TurnFold {
  /** Lengths of texts in characters; JavaScript's strings count UTF-16 units. @type {WeakMap<object, Record<string, number>>} */
  #lengths = new WeakMap();
  /** @type {WeakMap<Lane, Map<string, Tool>>} */
  #calls = new WeakMap();

  /**
   * @param {string} turnId The turn; "" while it has no id.
   * @param {string | null} inputId The input, if known.
   */
  constructor(turnId, inputId = null) {
    /**
     * The state so far, live: it changes with every event. Read only for all others.
     *
     * @type {FullTurnState}
     */
    this.state = {
      turn_id: turnId,
      input_id: inputId,
      started: false,
      held: false,
      status: null,
      reason: null,
      retryable: false,
      last_seq: 0,
      last_output_seq: 0,
      heard: null,
      usage: null,
      dropped: false,
      cut: false,
      lanes: Object.create(null),
    };
    this.state.lanes[""] = emptyLane();
    /** The `turn.ended` event; null while the turn runs. @type {ServerEventOf<"turn.ended"> | null} */
    this.ended = null;
  }

  /** Text of the main lane. */
  get text() {
    return this.state.lanes[""]?.text ?? "";
  }

  /**
   * Folds an event of this turn in; returns false for one that was folded in before.
   *
   * @param {AnyEvent} event
   */
  apply(event) {
    const state = this.state;
    if ((event.seq ?? 0) <= state.last_seq) return false;
    state.last_seq = event.seq ?? 0;
    if (event.type === "turn.ended") {
      this.finish(/** @type {ServerEventOf<"turn.ended">} */ (event));
      return true;
    }
    state.last_output_seq = state.last_seq;
    if (isOutput(event)) {
      if (!isUnknown(event)) this.#output(event);
    } else if (event.type === "turn.held" || event.type === "turn.resumed") {
      state.held = event.type === "turn.held";
    } else {
      state.input_id = event.input_id ?? state.input_id;
      state.started ||= event.type === "turn.started";
    }
    return true;
  }

  /**
   * Returns a fold that continues from a snapshot, which is not changed.
   *
   * @param {TurnState} snapshot
   */
  static unfold(snapshot) {
    const fold = new TurnFold(snapshot.turn_id, snapshot.input_id ?? null);
    const { lanes, ...rest } = structuredClone(snapshot);
    Object.assign(fold.state, rest);
    for (const [source, lane] of Object.entries(lanes ?? {})) {
      const data = Object.assign(Object.create(null), lane.data);
      const tools = (lane.tools ?? []).map((tool) => ({ ...newTool(tool.call_id, 0), ...tool }));
      const audio = (lane.audio ?? []).map((span) => ({ ...span, text: span.text ?? null }));
      fold.state.lanes[source] = /** @type {Lane} */ ({ ...emptyLane(), ...lane, data, tools, audio });
    }
    const state = fold.state;
    if (state.status !== null) {
      fold.ended = {
        type: "turn.ended",
        seq: state.last_seq,
        turn_id: state.turn_id,
        status: state.status,
        reason: state.reason ?? "",
        last_seq: state.last_output_seq,
        heard: state.heard ?? {},
        ...(state.usage === null ? {} : { usage: state.usage }),
        ...(state.retryable ? { retryable: true } : {}),
      };
    }
    return fold;
  }

  /** Yields the ids of the tool calls of every lane. */
  *callIds() {
    for (const lane of Object.values(this.state.lanes)) for (const tool of lane.tools) yield tool.call_id;
  }

  /** Folds the end of the turn in. @param {ServerEventOf<"turn.ended">} event */
  finish(event) {
    const { status, reason, retryable, heard, usage } = event;
    this.ended = event;
    Object.assign(this.state, { status, reason, retryable: retryable ?? false, heard, usage: usage ?? null });
    this.state.held = false;
  }

  /** @param {AnyEvent} event */
  #output(event) {
    const lane = this.#lane(event.source ?? "");
    const fold = /** @type {Record<string, (this: this, lane: Lane, event: any) => void>} */ (FOLDS)[event.type];
    fold?.call(this, lane, event);
  }

  /** @param {string} source */
  #lane(source) {
    const { lanes } = this.state;
    const lane = lanes[source];
    if (lane !== undefined) return lane;
    const fresh = emptyLane();
    if (Object.keys(lanes).length < MAX_LANES) lanes[source] = fresh;
    return fresh;
  }

  /**
   * Appends to a text of a lane or of a call, up to its bound.
   *
   * @param {any} owner
   * @param {"text" | "thoughts" | "arguments"} name
   * @param {string} text
   */
  append(owner, name, text) {
    const length = this.#lengthOf(owner, name);
    const piece = firstCharacters(text, MAX_TEXT_CHARS - length);
    owner[name] += piece;
    /** @type {Record<string, number>} */ (this.#lengths.get(owner))[name] = length + countCharacters(piece);
  }

  /**
   * @param {Lane} lane
   * @param {string} callId
   * @returns {Tool}
   */
  tool(lane, callId) {
    let calls = this.#calls.get(lane);
    if (calls === undefined) {
      calls = new Map(lane.tools.map((tool) => [tool.call_id, tool]));
      this.#calls.set(lane, calls);
    }
    let tool = calls.get(callId);
    if (tool === undefined) {
      tool = newTool(callId, this.#lengthOf(lane, "text"));
      if (lane.tools.length < MAX_TOOLS) {
        lane.tools.push(tool);
        calls.set(callId, tool);
      }
    }
    return tool;
  }

  /**
   * @param {any} owner
   * @param {string} name
   * @returns {number}
   */
  #lengthOf(owner, name) {
    let lengths = this.#lengths.get(owner);
    if (lengths === undefined) this.#lengths.set(owner, (lengths = {}));
    return (lengths[name] ??= countCharacters(owner[name]));
  }
}

/** @type {{[T in keyof Outputs]: (this: TurnFold, lane: Lane, event: Outputs[T]) => void}} */
const FOLDS = {
  status: (lane, event) => {
    lane.status = event.message;
  },
  thought(lane, event) {
    this.append(lane, "thoughts", event.text);
  },
  "text.delta"(lane, event) {
    this.append(lane, "text", event.text);
  },
  "audio.delta": (lane, { start_ms, duration_ms, text }) => {
    if (lane.audio.length < MAX_SPANS) lane.audio.push({ start_ms, duration_ms, text: text ?? null });
  },
  "tool.call"(lane, event) {
    this.tool(lane, event.call_id).name = event.name;
  },
  "tool.call.delta"(lane, event) {
    this.append(this.tool(lane, event.call_id), "arguments", event.arguments);
  },
  "tool.confirm"(lane, event) {
    Object.assign(this.tool(lane, event.call_id), { state: "confirming", given: event.arguments });
  },
  "tool.running"(lane, event) {
    Object.assign(this.tool(lane, event.call_id), { state: "running", given: event.arguments });
  },
  "tool.result"(lane, event) {
    const state = event.status === "running" ? "background" : event.status;
    const { output = null, error = null, duration_ms = 0 } = event;
    Object.assign(this.tool(lane, event.call_id), { state, output, error, duration_ms });
  },
  "step.ended": (lane) => {
    lane.steps += 1;
  },
  progress: (lane, { value, total = null, unit = null, label = null }) => {
    lane.progress = { value, total, unit, label };
  },
  data: (lane, event) => {
    if (event.name in lane.data || Object.keys(lane.data).length < MAX_KEYS) lane.data[event.name] = event.value;
  },
};

/** @returns {Lane} */
function emptyLane() {
  return {
    text: "",
    thoughts: "",
    status: null,
    tools: [],
    audio: [],
    progress: null,
    steps: 0,
    data: Object.create(null),
  };
}

/**
 * @param {string} callId
 * @param {number} textAt
 * @returns {Tool}
 */
function newTool(callId, textAt) {
  return {
    call_id: callId,
    name: "",
    arguments: "",
    given: null,
    state: "called",
    output: null,
    error: null,
    duration_ms: 0,
    text_at: textAt,
  };
}
