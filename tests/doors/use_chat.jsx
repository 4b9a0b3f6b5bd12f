// A page with the AI SDK's `useChat`, as its documentation has it.
import { useChat } from "@ai-sdk/react";
import {
    DefaultChatTransport,
    lastAssistantMessageIsCompleteWithApprovalResponses as isAnswered,
    lastAssistantMessageIsCompleteWithToolCalls as hasOutputs,
} from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";

function Part({ part, answer }) {
    if (part.type === "text") return <span className="text">{part.text}</span>;
    if (part.type === "reasoning") return <em>{part.text}</em>;
    if (part.type.startsWith("tool-")) {
        return (
            <code className="tool" data-state={part.state}>
                {part.type.slice(5)}: {JSON.stringify(part.output)}
                {part.state === "approval-requested" && (
                    <button onClick={() => answer({ id: part.approval.id, approved: true })}>Allow</button>
                )}
            </code>
        );
    }
    return null;
}

function Page() {
    const [input, setInput] = useState("");
    const { messages, sendMessage, status, error, addToolApprovalResponse, addToolOutput, resumeStream } = useChat({
        id: "page-1",
        resume: location.hash === "#resume",
        transport: new DefaultChatTransport({ api: "/api/chat" }),
        sendAutomaticallyWhen: (chat) => isAnswered(chat) || hasOutputs(chat),
        onToolCall({ toolCall }) {
            if (toolCall.toolName === "locate") {
                addToolOutput({ tool: "locate", toolCallId: toolCall.toolCallId, output: "Oslo" });
            }
        },
    });
    return (
        <main style={{ fontFamily: "sans-serif", maxWidth: 560, margin: "2rem auto", lineHeight: 1.6 }}>
            {messages.map((message) => (
                <p key={message.id} className={message.role}>
                    <b>{message.role} </b>
                    {message.parts.map((part, index) => (
                        <Part key={index} part={part} answer={addToolApprovalResponse} />
                    ))}
                </p>
            ))}
            <form
                onSubmit={(event) => {
                    event.preventDefault();
                    sendMessage({ text: input });
                    setInput("");
                }}
            >
                <input value={input} onChange={(event) => setInput(event.target.value)} />
                <button type="button" id="stop" onClick={() => fetch("/api/chat/page-1/stop", { method: "POST" })}>
                    Stop
                </button>
                <button type="button" id="resume" onClick={() => resumeStream()}>
                    Resume
                </button>
                <span id="status">{error ? error.message : status}</span>
            </form>
        </main>
    );
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Page />);
