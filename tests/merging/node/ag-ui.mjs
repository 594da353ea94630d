// AG-UI: the agent that runs over HTTP, with the verifier that is part of each run.

import { HttpAgent } from "@ag-ui/client";

import { EventLog } from "./event-log.mjs";
import { response } from "./response.mjs";

// The client converts older events and chunks to these before a subscriber sees them.
const DELTAS = new Set([
  "REASONING_MESSAGE_CONTENT",
  "TEXT_MESSAGE_CONTENT",
  "TOOL_CALL_ARGS",
]);

// Older events have no ids. The client invents ids for them, which differ in each run.
function comparable(final, body) {
  const invented = new Map();
  const text = JSON.stringify(final).replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, (id) => {
    if (body.includes(id)) return id;
    if (!invented.has(id)) invented.set(id, `invented ${invented.size}`);
    return invented.get(id);
  });
  return JSON.parse(text);
}

export async function agUI(body) {
  const log = new EventLog(["timestamp"]);
  const final = {};
  let updates = 0;
  const agent = new HttpAgent({
    url: "http://agent.test/",
    threadId: "thread",
    fetch: async () => response(body),
  });
  const subscriber = {
    onEvent: ({ event }) => log.add(event, DELTAS.has(event.type) ? [["delta"]] : []),
    onMessagesChanged: () => void updates++,
  };
  try {
    final.result = (await agent.runAgent({ runId: "run" }, subscriber)).result;
  } catch (error) {
    final.error = String(error);
  }
  const { messages, state, pendingInterrupts } = agent;
  Object.assign(final, { messages, state, pendingInterrupts, events: log.events });
  return { final: comparable(final, body), updates };
}
