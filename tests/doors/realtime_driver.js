// Drives Realtime sessions of the OpenAI Agents SDK as it is: one line of JSON for each, and one line with the result.
//
//     {"url": "ws://…/v1/realtime", "modality": "text", "steps": [["send", "hello"], …]}
//
// An error that the SDK reports fails the session.

import { createInterface } from "node:readline";
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from "@openai/agents-realtime";

async function talk(asked) {
    const called = [];
    const locate = tool({
        name: "locate",
        description: "Tell where the user is.",
        parameters: { type: "object", properties: {}, required: [], additionalProperties: true },
        strict: false,
        execute: async (given) => {
            called.push(given);
            return "Oslo";
        },
    });
    const errors = [];
    const events = [];
    const times = {};
    let sound = 0;
    let session;

    async function connect() {
        const agent = new RealtimeAgent({ name: "helper", instructions: "Be kind.", tools: [locate] });
        const transport = new OpenAIRealtimeWebSocket({ url: asked.url });
        const config = { outputModalities: [asked.modality ?? "text"], audio: asked.audio };
        session = new RealtimeSession(agent, { transport, config, tracingDisabled: true });
        session.on("error", (error) => errors.push(error));
        transport.on("*", (event) => {
            events.push(event);
            times[event.type] = performance.now();
        });
        session.on("audio", (event) => (sound += event.data.byteLength));
        await session.connect({ apiKey: asked.key ?? "none" });
        // The SDK knows the session by session.updated.
        await until(() => events.some((event) => event.type === "session.updated"), "the session");
    }

    async function until(condition, what) {
        for (let tries = 0; tries < 1000; tries++) {
            if (errors.length) throw new Error(`an error: ${JSON.stringify(errors)}`);
            if (condition()) return;
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
        throw new Error(`waited for ${what}: ${JSON.stringify(events.map((event) => event.type))}`);
    }

    const count = (type) => events.filter((event) => event.type === type).length;
    const texts = () =>
        events
            .filter((event) => /^response\.output_(text|audio_transcript)\.delta$/.test(event.type))
            .map((event) => event.delta)
            .join("");
    let ends = 0;

    const steps = {
        // A turn with a function of the client is two responses.
        send: async (words, responses = 1) => {
            await steps.begin(words, responses);
            await steps.finished();
        },
        begin: async (words, responses = 1) => {
            ends = count("response.done") + responses;
            session.sendMessage(words);
        },
        finished: () => until(() => count("response.done") >= ends, "the end of the response"),
        seen: (words) => until(() => texts().includes(words), words),
        sounded: (bytes) => until(() => sound >= bytes, "sound"),
        cancel: async () => {
            times.cut = performance.now();
            session.transport.sendEvent({ type: "response.cancel" });
            await steps.finished();
        },
        interrupt: async () => {
            times.cut = performance.now();
            session.interrupt();
            await steps.finished();
        },
        speak: async (audio, responses) => {
            ends = count("response.done") + responses;
            for (const piece of audio) session.sendAudio(Uint8Array.from(atob(piece), (c) => c.charCodeAt(0)).buffer);
            await steps.finished();
        },
        lose: async () => {
            const { websocket } = session.transport.connectionState;
            websocket.terminate ? websocket.terminate() : websocket.close();
            await until(() => session.transport.status === "disconnected", "the end of the connection");
            await connect();
        },
    };
    await connect();
    try {
        for (const [name, ...words] of asked.steps) await steps[name](...words);
    } finally {
        session.close();
    }
    const responses = events.filter((event) => event.type === "response.done").map((event) => event.response);
    const took = times.cut === undefined ? null : times["response.done"] - times.cut;
    return { responses, called, took, sound, history: session.history, types: events.map((event) => event.type) };
}

for await (const line of createInterface({ input: process.stdin })) {
    const result = await talk(JSON.parse(line)).catch((error) => ({ failed: String(error.stack) }));
    console.log(JSON.stringify(result));
}
process.exit(0);
