// Drives threads with AG-UI's HttpAgent as it is: one line of JSON for each, and one line with what it has at its end.
//
//     {"base": …, "version": 1, "steps": [["send", "hello"], …]}
//
// The client verifies the order of the events: an event out of place fails the run.

import { createInterface } from "node:readline";

async function talk(asked) {
    const { HttpAgent } = await import(asked.version === 1 ? "@ag-ui/client" : "@ag-ui/client-0");
    const headers = asked.token ? { Authorization: `Bearer ${asked.token}` } : {};
    const agent = new HttpAgent({ url: `${asked.base}/v1/ag-ui`, headers, threadId: asked.id ?? "thread-1" });
    const events = [];
    const errors = [];
    let running;
    let n = 0;

    const run = (parameters) =>
        agent
            .runAgent({ ...asked.parameters, ...parameters }, { onEvent: ({ event }) => void events.push(event) })
            .catch((error) => void errors.push(error.message));
    const add = (message) => agent.addMessage({ id: `m${++n}`, ...message });
    const text = () => events.map((event) => (event.type === "TEXT_MESSAGE_CONTENT" ? event.delta : "")).join("");

    async function until(condition, what) {
        for (let tries = 0; tries < 1000; tries++) {
            if (condition()) return;
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
        throw new Error(`waited for ${what}: ${JSON.stringify(events)} ${errors}`);
    }

    const steps = {
        send: async (words) => {
            add({ role: "user", content: words });
            await run();
        },
        begin: async (words) => {
            add({ role: "user", content: words });
            running = run();
        },
        seen: (words) => until(() => text().includes(words), words),
        abort: async () => {
            agent.abortRun();
            await running;
        },
        finished: () => running,
        resume: (status, payload) => {
            const [interrupt] = events.findLast((event) => event.outcome?.interrupts).outcome.interrupts;
            return run({ resume: [{ interruptId: interrupt.id, status, payload }] });
        },
        output: async (content) => {
            const { toolCallId } = events.findLast((event) => event.type === "TOOL_CALL_START");
            add({ role: "tool", toolCallId, content });
            await run();
        },
        run: () => run(),
        wait: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    };
    for (const [name, ...words] of asked.steps) await steps[name](...words);
    return { events, errors, messages: agent.messages, state: agent.state, text: text() };
}

for await (const line of createInterface({ input: process.stdin })) {
    const result = await talk(JSON.parse(line)).catch((error) => ({ failed: String(error.stack) }));
    console.log(JSON.stringify(result));
}
process.exit(0);
