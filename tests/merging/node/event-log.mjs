// The events that a client has seen, in order, with each run of adjacent deltas as one event.

import { isDeepStrictEqual } from "node:util";

function get(event, path) {
  return path.reduce((value, key) => value?.[key], event);
}

function set(event, path, value) {
  const parent = get(event, path.slice(0, -1));
  if (parent?.[path.at(-1)] !== undefined) parent[path.at(-1)] = value;
}

function kind(value) {
  if (typeof value === "string") return "string";
  return Array.isArray(value) ? "list" : undefined;
}

// `concatenated`: the strings and lists of a delta that are joined. `replaced`: fields that differ
// between deltas, where the last one counts. Adjacent events that differ in nothing else become one.
export class EventLog {
  events = [];
  #others = null;
  #replaced;

  constructor(replaced = []) {
    this.#replaced = replaced.map((key) => [key]);
  }

  add(original, concatenated = []) {
    const event = structuredClone(original);
    const others = concatenated.length ? this.#besides(event, concatenated) : null;
    if (others !== null && isDeepStrictEqual(others, this.#others)) {
      const previous = this.events.pop();
      for (const path of concatenated) {
        const last = get(event, path);
        if (kind(last)) set(event, path, get(previous, path).concat(last));
      }
    }
    this.#others = others;
    this.events.push(event);
  }

  #besides(event, concatenated) {
    const rest = structuredClone(event);
    for (const path of this.#replaced) set(rest, path, null);
    for (const path of concatenated) {
      const value = get(rest, path);
      set(rest, path, kind(value) ?? value);
    }
    return [concatenated, rest];
  }
}
