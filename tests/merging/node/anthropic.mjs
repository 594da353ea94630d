// Anthropic's SDK: Messages, read by the helper that accumulates them.

import Anthropic from "@anthropic-ai/sdk";

import { EventLog } from "./event-log.mjs";
import { response } from "./response.mjs";

const DELTAS = {
  input_json_delta: [["delta", "partial_json"]],
  text_delta: [["delta", "text"]],
  thinking_delta: [["delta", "thinking"]],
};

// The SDK parses the input of a tool when it is read, and throws there if it is not JSON.
function plain(message) {
  return message && JSON.parse(JSON.stringify(message));
}

function partial(message) {
  try {
    return plain(message);
  } catch {
    return "a tool's input is not JSON";
  }
}

export async function anthropicMessages(body) {
  const log = new EventLog();
  const final = {};
  let updates = 0;
  const client = new Anthropic({
    apiKey: "none",
    baseURL: "http://anthropic.test",
    maxRetries: 0,
    fetch: async () => response(body),
  });
  const messages = [{ role: "user", content: "Say something." }];
  const stream = client.messages.stream({ model: "m", max_tokens: 100, messages });
  stream.on("streamEvent", (event) => {
    log.add(event, DELTAS[event.delta?.type]);
    updates++;
  });
  try {
    final.message = plain(await stream.finalMessage());
  } catch (error) {
    final.error = String(error);
    final.message = partial(stream.currentMessage);
    log.events.pop(); // the SDK emits an event before it rejects the event
  }
  return { final: { ...final, events: log.events }, updates };
}
