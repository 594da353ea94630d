// What the official JavaScript clients make of a response body.
//
// Each line of standard input is a request, {"format": …, "body": base64}. The answer is a line of
// standard output, in the same order: {"final": …, "updates": n}, or {"failed": …} if this program
// fails. `final` does not depend on the number of deltas that a text came in. `updates` does: it is
// how often a page would have been updated.

import { createInterface } from "node:readline";

import { agUI } from "./ag-ui.mjs";
import { anthropicMessages } from "./anthropic.mjs";
import { openaiChat, openaiResponses } from "./openai.mjs";
import { vercelUI } from "./vercel-ui.mjs";

const CLIENTS = {
  "ag-ui": agUI,
  "anthropic-messages": anthropicMessages,
  "openai-chat": openaiChat,
  "openai-responses": openaiResponses,
  "vercel-ui": vercelUI,
};

// Standard output is only for answers. The answer has the error if a client fails.
console.log = console.info = console.warn = console.error = () => {};

async function answer(line) {
  const { format, body } = JSON.parse(line);
  const read = CLIENTS[format];
  if (read === undefined) throw new Error(`there is no client for ${format}`);
  return JSON.stringify(await read(Buffer.from(body, "base64")));
}

function failed(error) {
  return JSON.stringify({ failed: String(error?.stack ?? error) });
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${await answer(line).catch(failed)}\n`);
}
