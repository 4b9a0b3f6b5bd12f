/**
 * The chat page: creates its parts and connects.
 *
 * @module
 */

import { connect, ConnectError, SessionClosed } from "../bargein/index.js";
import { Announcer } from "./announcer.js";
import { Banner } from "./banner.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { byId } from "./dom.js";
import { placeIcons } from "./icons.js";
import { Inspector } from "./inspector.js";
import { canListen, Listening } from "./listening.js";
import { INPUT, Microphone } from "./microphone.js";
import { listenForCopies } from "./text/code.js";
import { canRead, Reading } from "./reading.js";
import { Sound } from "./sound.js";
import { forget, Journal, keep, kept } from "./store.js";
import { Tabs } from "./tabs.js";

/** @import { ConnectionState, ResumeState } from "../bargein/types.js" */
/** @import { ClientSession } from "../bargein/index.js" */

const NEAR_END_PX = 60;

const scroller = byId("scroller");
const log = byId("log");
const latest = byId("latest");
const welcome = byId("welcome");
const soundButton = byId("toggle-sound");
const readingButton = byId("toggle-reading");
const listeningButton = byId("toggle-listening");
const announcer = new Announcer(byId("announcer"));
const CANNOT_HEAR =
  "This server does not listen, so your browser turns speech into text. Its maker may receive the sound.";

/** @type {ClientSession | null} */
let session = null;
/** Resume state of a session that is no longer open. @type {ResumeState | null} */
let left = null;
/** @type {string | undefined} */
let token;
let isPinned = true;
let lastTop = 0;

const sound = new Sound({ report: (turnId, report) => conversation.tellPlayed(turnId, report), changed });
const reading = new Reading({ report: (turnId, report) => conversation.tellPlayed(turnId, report), changed });
const listening = new Listening({
  hold: () => conversation.hold(),
  goOn: () => conversation.goOn(),
  stop: () => conversation.stop(),
  send: (text) => conversation.send(text),
  failed: (words) => banner.tell(words, ["OK", () => banner.hide()]),
  changed,
});
const microphone = new Microphone(
  {
    started: () => sound.turn(true),
    failed: (words) => banner.tell(words, ["OK", () => banner.hide()]),
    changed,
    isAnswering: () => conversation.isSpeaking,
  },
  { bar: byId("voice"), level: byId("voice-level"), state: byId("voice-state"), words: byId("voice-words") },
);
/** @type {Conversation} */
const conversation = new Conversation({
  log,
  announcer,
  speakers: [sound, reading],
  changed,
  onCut: (cut) => inspector.picture(cut),
  drawn: keepEnd,
});
const inspector = new Inspector(conversation.frames, keepEnd);
const composer = new Composer({
  send: (text) => {
    isPinned = true;
    return conversation.send(text);
  },
  stop: () => conversation.stop(),
});
const banner = new Banner({ takeOver, retry: () => reopen(left, conversation.journals), restart, login });
const tabs = new Tabs(() => (session === null ? null : keeping()));

/** Scrolls to the end of the conversation, unless the user has scrolled up. */
function keepEnd() {
  if (isPinned) scroller.scrollTop = scroller.scrollHeight;
}

function changed() {
  composer.speaking = conversation.isSpeaking;
  soundButton.hidden = !sound.isWanted;
  soundButton.setAttribute("aria-pressed", String(sound.isOn && sound.isAllowed));
  composer.able = session !== null;
  readingButton.hidden = !reading.isAble;
  readingButton.setAttribute("aria-pressed", String(reading.isOn));
  listeningButton.hidden = !canListen && !hears();
  listeningButton.setAttribute("aria-pressed", String(listening.isOn || microphone.isOn));
  microphone.draw();
  welcome.hidden = log.childElementCount > 0;
}

/** Whether the server listens, as far as is known. */
function hears() {
  return session?.audio?.input != null || microphone.isOn;
}

function toggleListening() {
  if (hears()) return microphone.turn(!microphone.isOn);
  if (!listening.isOn) banner.tell(CANNOT_HEAR, ["OK", () => banner.hide()]);
  listening.turn(!listening.isOn);
}

/** @param {ConnectionState} state */
function connectionChanged(state) {
  banner.show(state);
  if (state.name === "replaced" || state.name === "closed") end();
  else if (state.name !== "connecting") save();
}

/** Drops a session that is over; its resume state serves to take it over again. */
function end() {
  session = null;
  microphone.use(null);
  changed();
}

/** @param {ResumeState | null} resume */
async function open(resume) {
  left = resume;
  banner.show({ name: "connecting" });
  /** @type {ClientSession | null} */
  let mine = null;
  try {
    await connect("v1/session", {
      resume,
      client: { name: "bargein-page" },
      audio: { input: INPUT, output: { encoding: "pcm16", rate: 24_000 } },
      ...(token === undefined ? {} : { token }),
      onSession: (made) => {
        session = mine = made;
        made.on("event", (event) => inspector.add("down", event));
        made.on("sent", (event) => inspector.add("up", event));
        // A session that was replaced by a new conversation still changes its state.
        made.on("state", (state) => made === session && connectionChanged(state));
        made.on("client.restarted", () => {
          banner.tell("The server has lost this conversation. You can continue with a new one.", ["OK", () => banner.hide()]);
        });
        conversation.use(made);
        microphone.use(made);
      },
    });
  } catch (error) {
    if (mine !== session && session !== null) return;
    end();
    // The end of an open session was shown by a change of its state.
    if (error instanceof ConnectError) banner.closed(error.code?.name ?? null, error.why);
    else if (!(error instanceof SessionClosed)) banner.closed(null);
  }
}

/** @param {ResumeState | null} resume @param {Journal[]} journals */
function reopen(resume, journals) {
  conversation.clear();
  conversation.restore(journals);
  open(resume);
}

/** Takes the conversation over from another tab. */
async function takeOver() {
  const other = left === null ? null : await tabs.ask(left.session_id);
  const journals = other?.turns.map((turn) => Object.assign(new Journal(turn.input, turn.inputId), turn));
  reopen(other?.resume ?? left, journals ?? conversation.journals);
}

function restart() {
  session?.close().catch(() => {});
  session = null;
  forget();
  conversation.clear();
  open(null);
  composer.focus();
}

/** @param {string} given */
function login(given) {
  token = given;
  reopen(left, conversation.journals);
}

/** Returns the state that continues this tab: the session and the display at the same moment. */
function keeping() {
  left = session?.resumeState() ?? left;
  return { resume: left, turns: conversation.journals, draft: composer.text };
}

function save() {
  keep(keeping());
}

scroller.addEventListener("scroll", () => {
  const { scrollTop, clientHeight, scrollHeight } = scroller;
  // Only the user's scrolling up releases the end, not a growing answer.
  if (scrollTop + clientHeight >= scrollHeight - NEAR_END_PX) isPinned = true;
  else if (scrollTop < lastTop) isPinned = false;
  lastTop = scrollTop;
  latest.hidden = isPinned;
});
latest.addEventListener("click", () => {
  isPinned = true;
  scroller.scrollTop = scroller.scrollHeight;
  composer.focus();
});
soundButton.addEventListener("click", () => sound.turn(!sound.isOn || !sound.isAllowed));
readingButton.addEventListener("click", () => reading.turn(!reading.isOn));
listeningButton.addEventListener("click", toggleListening);
addEventListener("keydown", (event) => {
  if (event.code !== "Space" || !event.ctrlKey || !hears()) return;
  event.preventDefault();
  if (!event.repeat) microphone.hold(true);
});
addEventListener("keyup", (event) => (event.code === "Space" || event.key === "Control") && microphone.hold(false));
addEventListener("blur", () => microphone.hold(false));
if (canRead) speechSynthesis.addEventListener?.("voiceschanged", changed);
byId("restart").addEventListener("click", restart);
welcome.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("button") : null;
  if (button?.textContent) conversation.send(button.textContent);
});
addEventListener("pagehide", save);
addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") save();
});

placeIcons(document);
listenForCopies(log);
const before = kept();
if (before !== null) {
  composer.text = before.draft;
  conversation.restore(before.turns);
}
open(before?.resume ?? null);
composer.focus();
