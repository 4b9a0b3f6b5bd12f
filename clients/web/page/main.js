/**
 * The chat page: creates its parts and connects.
 *
 * @module
 */

import { Announcer } from "./announcer.js";
import { Banner } from "./banner.js";
import { apply, branding } from "./branding.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import * as file from "./conversations/export.js";
import { removeAll } from "./conversations/stored.js";
import { Switcher } from "./conversations/switcher.js";
import { byId } from "./dom.js";
import { Files } from "./files.js";
import { placeIcons } from "./icons.js";
import { Inspector } from "./inspector.js";
import { canListen, Listening } from "./listening.js";
import { Microphone } from "./microphone.js";
import { canRead, Reading } from "./reading.js";
import { Settings } from "./settings.js";
import { Sound } from "./sound.js";
import { forget, Journal, keep, kept } from "./store.js";
import { Tabs } from "./tabs.js";
import { listenForCopies } from "./text/code.js";

/** @import { ResumeState } from "../bargein/types.js" */

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

let isPinned = true;
/** Whether nothing is to be stored any more. */
let isLeaving = false;
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
    if (!conversation.send(text, files.chosen)) return false;
    files.clear();
    save();
    return true;
  },
  hasFiles: () => files.chosen.length > 0,
  stop: () => conversation.stop(),
});
const files = new Files({ tell: (words) => banner.tell(words, ["OK", () => banner.hide()]) });
const banner = new Banner({ takeOver, retry: () => reopen(connection.left, conversation.journals), reconnect: () => connection.session?.reconnect(), restart, login });
const connection = new Connection({ conversation, inspector, banner, microphone, changed, save });
const switcher = new Switcher({
  connection,
  keeping,
  display: (resume, journals, draft) => {
    forget();
    composer.text = draft;
    isPinned = true;
    reopen(resume, journals);
    composer.focus();
  },
  tell: (words) => banner.tell(words, ["OK", () => banner.hide()]),
});
const settings = new Settings({
  sound: (on) => sound.turn(on),
  save: (form) => file.save(form, switcher.title, conversation.exported),
  logOut,
  isLoggedIn: () => connection.credential !== undefined,
});
const tabs = new Tabs(() => (connection.session === null ? null : keeping()));

/** Scrolls to the end of the conversation, unless the user has scrolled up. */
function keepEnd() {
  if (isPinned) scroller.scrollTop = scroller.scrollHeight;
}

function changed() {
  composer.speaking = conversation.isSpeaking;
  soundButton.hidden = !sound.isWanted;
  soundButton.setAttribute("aria-pressed", String(sound.isOn && sound.isAllowed));
  composer.able = connection.session !== null;
  files.limits = connection.session?.limits ?? null;
  readingButton.hidden = !reading.isAble;
  readingButton.setAttribute("aria-pressed", String(reading.isOn));
  listeningButton.hidden = !canListen && !hears();
  listeningButton.setAttribute("aria-pressed", String(listening.isOn || microphone.isOn));
  microphone.draw();
  welcome.hidden = log.childElementCount > 0;
}

/** Whether the server listens, as far as is known. */
function hears() {
  return connection.session?.audio?.input != null || microphone.isOn;
}

function toggleListening() {
  if (hears()) return microphone.turn(!microphone.isOn);
  if (!listening.isOn) banner.tell(CANNOT_HEAR, ["OK", () => banner.hide()]);
  listening.turn(!listening.isOn);
}

/** @param {ResumeState | null} resume @param {Journal[]} journals */
function reopen(resume, journals) {
  conversation.clear();
  conversation.restore(journals);
  connection.open(resume);
  changed();
}

/** Takes the conversation over from another tab. */
async function takeOver() {
  const { left } = connection;
  const other = left === null ? null : await tabs.ask(left.session_id);
  const journals = other?.turns.map((turn) => Object.assign(new Journal(turn.input, turn.inputId), turn));
  reopen(other?.resume ?? left, journals ?? conversation.journals);
}

function restart() {
  switcher.begin();
}

/** @param {string} given */
function login(given) {
  connection.use(given);
  reopen(connection.left, conversation.journals);
}

/** Forgets the credential, and the conversations that it opened. */
function logOut() {
  connection.use(undefined);
  removeAll();
  forget();
  isLeaving = true;
  location.reload();
}

/** Returns the state that continues this tab: the session and the display at the same moment. */
function keeping() {
  return { resume: connection.resumeState(), turns: conversation.journals, draft: composer.text };
}

function save() {
  if (isLeaving) return;
  const state = keeping();
  keep(state);
  switcher.save(state);
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
sound.isOn = settings.sound;
switcher.shownId = before !== null && before.turns.length > 0 ? (before.resume?.session_id ?? null) : null;
branding().then((found) => {
  if (found !== null) apply(found);
  banner.loginUrl = found?.login ?? null;
  switcher.start(found?.lists ?? false);
});
connection.open(before?.resume ?? null);
composer.focus();
