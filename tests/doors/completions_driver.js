// Asks chat completions with the `openai` package as it is: one line of JSON for each, and one line with the answer.
//
//     {"base": …, "key": …, "messages": […], "stream": true, "leave": "5", "place": "Oslo"}
//
// With `leave` it closes the request as soon as the text contains that. With `place` it runs the tool `locate` itself, and
// asks again with the result.

import { createInterface } from "node:readline";
import OpenAI from "openai";

async function ask({ base, key, messages, stream, headers, leave, place }) {
    const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key ?? "none", maxRetries: 0 });
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    const request = { model: models[0], messages, stream: Boolean(stream) };
    try {
        const answer = await client.chat.completions.create(request, { headers });
        if (place !== undefined) {
            const { message } = answer.choices[0];
            const results = message.tool_calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: place }));
            const called = message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
            const rest = await ask({ base, key, messages: [...messages, message, ...results], stream: true, headers });
            return { ...rest, called };
        }
        if (!stream) return { models, text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason };
        let text = "";
        let finish = null;
        for await (const { choices } of answer) {
            text += choices[0]?.delta.content ?? "";
            finish ??= choices[0]?.finish_reason;
            if (leave && text.includes(leave)) break; // the package aborts the request
        }
        return { models, text, finish };
    } catch (error) {
        return { models, error: error.constructor.name, status: error.status ?? null, message: error.message };
    }
}

for await (const line of createInterface({ input: process.stdin })) {
    const result = await ask(JSON.parse(line)).catch((error) => ({ failed: String(error.stack) }));
    console.log(JSON.stringify(result));
}
process.exit(0);
