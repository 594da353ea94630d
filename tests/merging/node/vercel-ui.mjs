// The UI message stream of Vercel's AI SDK, read by the chat that `useChat` uses, without React.

import { AbstractChat, DefaultChatTransport } from "ai";

import { EventLog } from "./event-log.mjs";
import { response } from "./response.mjs";

const DELTAS = {
  "reasoning-delta": [["delta"]],
  "text-delta": [["delta"]],
  "tool-input-delta": [["inputTextDelta"]],
};

// The default transport, with a log of the chunks that match the schema.
class Transport extends DefaultChatTransport {
  log = new EventLog();

  processResponseStream(stream) {
    const { log } = this;
    const watch = new TransformStream({
      transform(chunk, controller) {
        log.add(chunk, DELTAS[chunk.type]);
        controller.enqueue(chunk);
      },
    });
    return super.processResponseStream(stream).pipeThrough(watch);
  }
}

class State {
  status = "ready";
  error = undefined;
  messages = [];
  updates = 0;

  pushMessage(message) {
    this.messages.push(this.snapshot(message));
    this.updates++;
  }

  popMessage() {
    this.messages.pop();
    this.updates++;
  }

  replaceMessage(index, message) {
    this.messages[index] = this.snapshot(message);
    this.updates++;
  }

  snapshot(thing) {
    return structuredClone(thing);
  }
}

class Chat extends AbstractChat {}

export async function vercelUI(body) {
  const transport = new Transport({
    fetch: async () => response(body, { "x-vercel-ai-ui-message-stream": "v1" }),
  });
  const state = new State();
  let ids = 0;
  const final = { data: [], toolCalls: [] };
  const chat = new Chat({
    id: "chat",
    generateId: () => `generated ${ids++}`,
    transport,
    state,
    onData: (part) => void final.data.push(part),
    onToolCall: ({ toolCall }) => void final.toolCalls.push(toolCall),
    onFinish: ({ finishReason }) => void (final.finishReason = finishReason),
  });
  await chat.sendMessage({ text: "Say something." });
  // The log is ahead of the chat: at an error it may have events that the chat has not processed.
  if (chat.error) [final.error] = String(chat.error).split("\n", 1); // the other lines quote the schema
  else final.events = transport.log.events;
  const { messages, status } = chat;
  return { final: { ...final, status, messages }, updates: state.updates };
}
