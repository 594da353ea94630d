// The page. It starts all sides at the same time, and leaves them at the same time. Meanwhile it asks
// the server for its figures.

import { isAtWork, tokens } from "./agent.js";
import { Side } from "./side.js";

// The columns of the page. The others are compared with the first.
const SIDES = [
  { id: "plain", title: "Plain", code: "StreamingResponse" },
  { id: "batched", title: "Batched", code: "+ SSEBatchingMiddleware" },
  { id: "merged", title: "Merged", code: '+ merge="auto"' },
];

const POLL_INTERVAL = 100; // milliseconds

const startButton = document.getElementById("start");
const leaveButton = document.getElementById("leave");
const verdict = document.getElementById("verdict");

const sides = SIDES.map((side) => new Side(side));
document.getElementById("sides").append(...sides.map((side) => side.element));

let currentRun = null; // any earlier run stops polling

async function start() {
  const run = { id: randomId(), leaving: new AbortController(), reading: true };
  currentRun = run;
  for (const side of sides) side.reset();
  setControls(true);
  say("running", "The same answer, three times…");

  // The page's own parameters go to the server, so that /?tokens_per_second=200 is a faster demo.
  const query = new URLSearchParams(location.search);
  query.set("run", run.id);
  const streams = sides.map((side) => side.stream(query, run.leaving.signal));
  Promise.all(streams).then(() => {
    run.reading = false;
    setControls(false);
  });
  await poll(run);
}

function leave() {
  leaveButton.disabled = true;
  currentRun.leaving.abort();
}

/** Show the server's figures until no answer is being read and no agent is at work. */
async function poll(run) {
  let lastRound = false;
  while (!lastRound) {
    // Read before the figures are requested: a stream that ends meanwhile needs one more round.
    const wasReading = run.reading;
    const figures = await fetchFigures(run);
    if (currentRun !== run) return; // another run has been started
    for (const side of sides) if (figures[side.id]) side.report(figures[side.id]);
    lastRound = !wasReading && !sides.some((side) => isAtWork(side.figures));
    conclude(run, lastRound);
    await new Promise((resume) => setTimeout(resume, POLL_INTERVAL));
  }
}

/** Return what the server has counted so far for each side of this run. */
async function fetchFigures(run) {
  try {
    return await (await fetch(`runs/${run.id}`)).json();
  } catch {
    // The server is gone, so no agent is at work, and there are no figures.
    for (const side of sides) side.figures = null;
    return {};
  }
}

function conclude(run, final) {
  if (run.leaving.signal.aborted) {
    const spent = sides.map((side) => `${side.title}: ${tokens(side.figures?.wasted_tokens ?? 0)}`);
    say(final ? "left" : "leaving", `Wasted since you left:\n${spent.join(", ")}.`);
  } else if (final && sides.every((side) => side.complete && side.figures)) {
    const [baseline, ...others] = sides;
    say("complete", others.map((side) => compare(baseline, side)).join("\n"));
  } else if (final) {
    say("failed", "Not every answer is complete.");
  }
}

// Without the CPU time, because its difference in a single run means too little.
function compare(baseline, side) {
  const found = [
    side.answer.text === baseline.answer.text ? "the same text" : "a different text",
    `${times(baseline.figures.writes, side.figures.writes)} fewer writes`,
  ];
  if (side.events !== baseline.events) {
    found.push(`${times(baseline.events, side.events)} fewer events`);
    found.push(`${times(baseline.bytes, side.bytes)} fewer bytes`);
  }
  return `${side.title}: ${found.join(", ")}.`;
}

const times = (more, less) => `${(more / less).toFixed(1)}×`;

function setControls(running) {
  startButton.disabled = running;
  leaveButton.disabled = !running;
}

function say(state, text) {
  verdict.dataset.state = state;
  if (verdict.textContent !== text) verdict.textContent = text;
}

// crypto.randomUUID would need https, or localhost.
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

startButton.addEventListener("click", start);
leaveButton.addEventListener("click", leave);
setControls(false);
say("idle", "Start, walk away in the middle, and see which agents notice.");
