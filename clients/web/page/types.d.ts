/** What the parts of the page tell each other. */

import type { TurnView } from "./turn_view.js";
import type { ToolState, ServerEventOf, TurnEvent } from "../bargein/types.js";

export type ToolPhase = NonNullable<ToolState["state"]>;

/** What an agent says. */
export type Output = Extract<TurnEvent, { source?: string | null }>;
export type Ended = ServerEventOf<"turn.ended">;

/** What the views ask of whoever talks to the server. */
export interface Desk {
  /** Allows or denies a call. */
  decide(callId: string, allow: boolean): void;
  /** Gives the result of a tool that runs here. */
  answer(callId: string, result: { output: unknown } | { error: string }): void;
  /** Sends words as if they were typed. */
  send(text: string): boolean;
  /** Asks again in the place of an exchange; returns whether that was possible. */
  replace(view: TurnView, text: string): boolean;
}

/** Whether events tell what happens now, or what happened before this page was there. */
export type When = "live" | "restored";

/** How an interrupt of this page went, in milliseconds of `performance.now()`. */
export interface Cut {
  turnId: string;
  askedAt: number;
  /** The first frame on the screen after it. */
  silentAt: number | null;
  answeredAt: number | null;
  outcome: string | null;
  endedAt: number | null;
  /** Events of the turn that were on their way and were not shown. */
  late: number[];
}

/** How a barge-in by voice went, in milliseconds of `performance.now()`. */
export interface BargeIn {
  turnId: string;
  /** The first sound of the user's voice, as far as its time is known. */
  onsetAt: number;
  noticedAt: number;
  /** The answer was held, and its sound paused. */
  heldAt: number;
  decidedAt: number | null;
  /** "resumed" for a cough or a word of agreement. */
  verdict: "ended" | "resumed" | null;
  understoodAt: number | null;
  /** The first output of the next answer. */
  answeredAt: number | null;
}
