// OpenAI's SDK: Chat Completions and Responses, read by the helpers that accumulate them.

import OpenAI from "openai";

import { EventLog } from "./event-log.mjs";
import { response } from "./response.mjs";

const TEXTS = ["content", "refusal", "reasoning", "reasoning_content"];
const NOT_TEXT = new Set(["response.audio.delta"]);

function client(body) {
  return new OpenAI({
    apiKey: "none",
    baseURL: "http://openai.test/v1",
    maxRetries: 0,
    fetch: async () => response(body),
  });
}

// Paths of a chunk that are joined. A chunk is a delta only if exactly one of its texts has grown.
function grown({ choices }) {
  if (choices?.length !== 1) return [];
  const delta = choices[0].delta ?? {};
  const paths = TEXTS.filter((key) => delta[key]).map((key) => [key]);
  if (delta.tool_calls?.[0]?.function?.arguments) {
    paths.push(["tool_calls", 0, "function", "arguments"]);
  }
  if (paths.length !== 1) return [];
  const lists = ["content", "refusal"].map((key) => ["choices", 0, "logprobs", key]);
  return [["choices", 0, "delta", ...paths[0]], ...lists, ["choices", 0, "token_ids"]];
}

// The SDK keeps only the last piece of fields that it does not know: of the reasoning, and of the
// padding. They are removed here. The log has all of the reasoning.
function known(completion) {
  if (completion === undefined) return undefined;
  const { obfuscation, ...rest } = structuredClone(completion);
  for (const { message } of rest.choices) {
    delete message?.reasoning;
    delete message?.reasoning_content;
  }
  return rest;
}

export async function openaiChat(body) {
  const log = new EventLog(["created", "obfuscation"]);
  const final = {};
  let completion;
  let updates = 0;
  const messages = [{ role: "user", content: "Say something." }];
  const stream = client(body).chat.completions.stream({ model: "m", messages });
  stream.on("chunk", (chunk, snapshot) => {
    completion = snapshot;
    log.add(chunk, grown(chunk));
    updates++;
  });
  try {
    completion = await stream.finalChatCompletion();
  } catch (error) {
    final.error = String(error);
  }
  return { final: { ...final, completion: known(completion), events: log.events }, updates };
}

export async function openaiResponses(body) {
  const log = new EventLog(["sequence_number", "obfuscation"]);
  const final = {};
  let updates = 0;
  const stream = client(body).responses.stream({ model: "m", input: "Say something." });
  stream.on("event", (event) => {
    const text = typeof event.delta === "string" && !NOT_TEXT.has(event.type);
    log.add(event, text ? [["delta"], ["logprobs"]] : []);
    updates++;
  });
  try {
    final.response = await stream.finalResponse();
  } catch (error) {
    final.error = String(error);
  }
  return { final: { ...final, events: log.events }, updates };
}
