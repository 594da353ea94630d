// One column of the page. It reads the stream of its side, and shows the answer, the page's own
// counters and the figures of the server.

import { describeAgent } from "./agent.js";
import { AnswerView } from "./answer.js";
import { ReadsChart } from "./reads.js";
import { EventParser } from "./sse.js";

// `source` says who counts: the server counts what it writes, the page what it receives.
const COUNTERS = [
  { id: "writes", label: "writes", source: "server" },
  { id: "events", label: "events", source: "page" },
  { id: "bytes", label: "bytes", source: "page" },
  { id: "first-text", label: "first text", source: "page", unit: "ms" },
  { id: "updates", label: "page updates", source: "page" },
  { id: "cpu", label: "server CPU", source: "server", unit: "ms" },
];

export class Side {
  /** Make the column. `id` is also the name of the side on the server. */
  constructor({ id, title, code }) {
    this.id = id;
    this.title = title;

    const template = document.getElementById("side-template").content;
    this.element = template.firstElementChild.cloneNode(true);
    const part = (selector) => {
      const element = this.element.querySelector(selector);
      element.dataset.side = id; // for tests, which find the element by it
      return element;
    };
    this.element.setAttribute("aria-label", title);
    part("h2").textContent = title;
    part(".title code").textContent = code;
    this.answerElement = part(".answer");
    this.answerElement.setAttribute("aria-label", `The answer, ${title.toLowerCase()}`);
    this.answer = new AnswerView(this.answerElement);
    this.chart = new ReadsChart(part("canvas"));
    this.agentElement = part(".agent");
    this.counterElements = Object.fromEntries(
      COUNTERS.map((counter) => [counter.id, addCounter(part("dl"), id, counter)]),
    );
    this.reset();
  }

  reset() {
    this.figures = null; // the latest from the server
    this.events = 0;
    this.bytes = 0;
    this.updates = 0;
    this.complete = false; // the whole answer has been read
    this.answerElement.classList.remove("left");
    this.answer.clear();
    for (const { id } of COUNTERS) this.#count(id, null);
    this.#showAgent({ state: "idle", headline: "Agent", detail: "not started" });
  }

  /** Read one answer to its end, or until `signal` aborts. Errors are shown, and not thrown. */
  async stream(query, signal) {
    const parser = new EventParser();
    const started = performance.now();
    this.answerElement.setAttribute("aria-busy", "true");
    this.chart.start();
    try {
      const response = await fetch(`${this.id}/chat?${query}`, { signal });
      if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
      const reader = response.body.getReader();
      for (let read = await reader.read(); !read.done; read = await reader.read()) {
        this.bytes += read.value.byteLength;
        this.#count("bytes", this.bytes);
        this.#update(parser.push(read.value), started);
      }
      this.complete = true;
    } catch (error) {
      // Leaving is not a failure. Any other error is one, and is shown.
      if (signal.aborted) {
        this.answerElement.classList.add("left");
      } else {
        this.#showAgent({ state: "failed", headline: "The stream failed", detail: error.message });
      }
    } finally {
      this.answerElement.setAttribute("aria-busy", "false");
      this.chart.stop();
    }
  }

  // All events of one read make one update of the page, so fewer reads are less work here, too.
  #update(events, started) {
    if (events.length === 0) return;
    const text = events.map(deltaText).join("");
    if (text !== "") {
      if (this.answer.text === "") this.#count("first-text", performance.now() - started);
      this.answer.append(text);
    }
    this.events += events.length;
    this.updates += 1;
    this.#count("events", this.events);
    this.#count("updates", this.updates);
    this.chart.add(events.length);
  }

  /** Show the server's figures of this run: its writes, its CPU time, and what the agent does. */
  report(figures) {
    this.figures = figures;
    this.#count("writes", figures.writes);
    this.#count("cpu", figures.cpu_ms);
    this.#showAgent(describeAgent(figures));
    this.agentElement.dataset.tokens = figures.tokens ?? "";
    this.agentElement.dataset.wastedTokens = figures.wasted_tokens ?? "";
    this.agentElement.dataset.stoppedAfterMs = figures.stopped_after_ms ?? "";
  }

  #count(id, value) {
    const { unit } = COUNTERS.find((counter) => counter.id === id);
    const element = this.counterElements[id];
    element.dataset.value = value ?? "";
    element.textContent = value === null ? "–" : format(value, unit);
  }

  #showAgent({ state, headline, detail }) {
    this.agentElement.dataset.state = state;
    this.agentElement.querySelector(".headline").textContent = headline;
    this.agentElement.querySelector(".detail").textContent = detail;
  }
}

function addCounter(list, side, { id, label, source }) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  term.textContent = label;
  row.title = `counted by the ${source}`;
  value.dataset.side = side;
  value.dataset.counter = id;
  row.append(term, value);
  list.append(row);
  return value;
}

/** Return the text in one `chat.completion.chunk`. */
function deltaText({ data }) {
  if (data === "[DONE]") return "";
  const chunk = JSON.parse(data);
  if (chunk.error) throw new Error(chunk.error.message);
  return chunk.choices[0]?.delta.content ?? "";
}

function format(value, unit) {
  if (unit === undefined) return value.toLocaleString("en");
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}
