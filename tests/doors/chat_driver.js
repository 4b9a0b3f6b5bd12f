// Drives chats with the AI SDK as it is: one line of JSON for each, and one line with what it has at its end.
//
//     {"base": …, "version": 7, "socket": false, "steps": [["send", "hello"], …]}
//
// Every chunk passes the SDK's own schema: a chunk that it does not accept fails the chat.

import { createInterface } from "node:readline";

class State {
    status = "ready";
    error = undefined;

    constructor(messages) {
        this.messages = messages;
    }

    pushMessage = (message) => (this.messages = [...this.messages, message]);
    popMessage = () => (this.messages = this.messages.slice(0, -1));
    replaceMessage = (index, message) =>
        (this.messages = [...this.messages.slice(0, index), message, ...this.messages.slice(index + 1)]);
    snapshot = (value) => structuredClone(value);
}

async function talk(asked) {
    const sdk = await import({ 5: "ai-5", 6: "ai-6", 7: "ai" }[asked.version]);

    class Chat extends sdk.AbstractChat {
        constructor({ messages, ...init }) {
            super({ ...init, state: new State(messages ?? []) });
        }
    }

    async function transport() {
        const headers = asked.token ? { authorization: `Bearer ${asked.token}` } : {};
        if (!asked.socket) {
            const query = asked.version === 5 ? "?version=5" : "";
            return new sdk.DefaultChatTransport({
                api: `${asked.base}/api/chat${query}`,
                headers,
                body: asked.body,
                fetch: counted,
                prepareReconnectToStreamRequest: ({ id }) => ({ api: `${asked.base}/api/chat/${id}/stream` }),
            });
        }
        const { WebSocket } = await import("ws");
        const { WebSocketChatTransport } = sdk;
        return new WebSocketChatTransport({ url: `${asked.base}/api/chat`, headers, webSocket: WebSocket, body: asked.body });
    }

    const calls = [];
    const data = [];
    let requests = 0;

    // As pages do it: the output is added in the callback, and is not waited for.
    function called(toolCall) {
        calls.push(toolCall);
        const output = asked.outputs?.[toolCall.toolName];
        if (output !== undefined) {
            chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output });
        }
    }

    const counted = (...request) => {
        requests += 1;
        return fetch(...request);
    };

    function open(messages) {
        return transport().then(
            (made) =>
                new Chat({
                    id: asked.id ?? "chat-1",
                    messages,
                    transport: made,
                    onToolCall: ({ toolCall }) => void called(toolCall),
                    onData: (part) => void data.push(part),
                    sendAutomaticallyWhen: (options) =>
                        sdk.lastAssistantMessageIsCompleteWithToolCalls(options) ||
                        Boolean(sdk.lastAssistantMessageIsCompleteWithApprovalResponses?.(options)),
                }),
        );
    }

    async function until(condition, what) {
        for (let n = 0; n < 1000; n++) {
            if (condition()) return;
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
        throw new Error(`waited for ${what}: ${JSON.stringify(chat.messages)} ${chat.status} ${chat.error}`);
    }

    const text = () =>
        (chat.messages.at(-1)?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
    const tool = () => chat.messages.at(-1).parts.findLast((part) => part.toolCallId);
    const pending = (state) => chat.messages.at(-1).parts.filter((part) => part.state === state);
    const settled = () => until(() => ["ready", "error"].includes(chat.status), "the end");

    let chat = await open();
    let running;

    const steps = {
        send: async (words, files) => {
            await chat.sendMessage({ text: words, files });
            await settled();
        },
        begin: async (words) => void (running = chat.sendMessage({ text: words })),
        seen: (words) => until(() => text().includes(words), words),
        finished: async () => {
            await running;
            await settled();
        },
        regenerate: async () => {
            await chat.regenerate();
            await settled();
        },
        edit: async (index, words) => {
            const message = chat.messages[index];
            await chat.sendMessage({ text: words, messageId: message.id });
            await settled();
        },
        abort: async () => {
            await chat.stop();
            await running;
        },
        stop: async () => {
            const response = await fetch(`${asked.base.replace(/^ws/, "http")}/api/chat/${chat.id}/stop`, { method: "POST" });
            if (!response.ok) throw new Error(await response.text());
        },
        // A reloaded page has the messages that it stored, and resumes.
        reload: async () => {
            const messages = structuredClone(chat.messages);
            await chat.stop();
            await running?.catch(() => {});
            chat = await open(messages);
            running = chat.resumeStream();
        },
        approve: async (approved) => {
            await until(() => tool()?.state === "approval-requested", "a request");
            await chat.addToolApprovalResponse({ id: tool().approval.id, approved });
            await until(() => text().includes("Done.") || text().includes("leave"), "the rest");
            await settled();
        },
        output: async (output) => {
            await until(() => tool()?.state === "input-available", "a call");
            await settled();
            await chat.addToolOutput({ tool: "locate", toolCallId: tool().toolCallId, output });
            await until(() => text().includes("You are in"), "the rest");
            await settled();
        },
        // The user decides on every call that asks, until the turn is over.
        decide: async (approved) => {
            await settled();
            for (let asks; (asks = pending("approval-requested")).length > 0; ) {
                for (const part of asks) await chat.addToolApprovalResponse({ id: part.approval.id, approved });
                await until(() => pending("approval-requested").every((part) => !asks.includes(part)), "the send");
                await new Promise((resolve) => setTimeout(resolve, 50));
                await settled();
            }
        },
        consent: () =>
            chat.addToolApprovalResponse({ id: pending("approval-requested")[0].approval.id, approved: true }),
        has: (state) => until(() => pending(state).length > 0, state),
        // Requests that the chat sends by itself are over, too.
        idle: async () => {
            for (let n = 0; n < 5; n++) {
                await new Promise((resolve) => setTimeout(resolve, 30));
                await settled();
            }
        },
        wait: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    };

    for (const [name, ...words] of asked.steps) await steps[name](...words);

    return { messages: chat.messages, status: chat.status, error: chat.error?.message, calls, data, requests };
}

for await (const line of createInterface({ input: process.stdin })) {
    const result = await talk(JSON.parse(line)).catch((error) => ({ failed: String(error.stack) }));
    console.log(JSON.stringify(result));
}
process.exit(0);
