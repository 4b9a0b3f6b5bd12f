/**
 * Loudspeaker and microphone of a browser, for sessions with audio.
 *
 *     const player = new AudioPlayer();
 *     player.attach(session);                             // plays every turn, and reports what was heard
 *     const recorder = new AudioRecorder({ rate: 16000, onSound: (sound) => session.microphone.send(sound) });
 *     button.addEventListener("click", async () => {
 *       player.resume();
 *       await recorder.start();
 *     });
 *
 * @module
 */

export { AudioPlayer } from "./player.js";
export { AudioRecorder, RecorderError } from "./recorder.js";
/** @typedef {import("./player.js").Played} Played */
/** @typedef {import("./recorder.js").RecorderFault} RecorderFault */
