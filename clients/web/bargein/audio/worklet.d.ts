/** What the audio thread has, which TypeScript's DOM does not declare. */

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new (options: any) => AudioWorkletProcessor): void;
/** Samples per second of the context. */
declare const sampleRate: number;
