// What the agent on the server did, in words.

/** Return true if the agent can still spend tokens. */
export const isAtWork = (figures) => ["waiting", "running"].includes(figures?.agent);

export const tokens = (count) => `${count.toLocaleString("en")} token${count === 1 ? "" : "s"}`;

/** Describe the server's `figures` of one side: a state for the style sheet, and two lines of text. */
export function describeAgent(figures) {
  const wasted = figures.wasted_tokens ?? 0;
  switch (figures.agent) {
    case "interrupted":
      return {
        state: "interrupted",
        headline: figures.disconnected
          ? `Interrupted ${figures.stopped_after_ms.toFixed(1)} ms after the connection closed`
          : "Interrupted",
        detail: `${tokens(wasted)} wasted. The agent was told “${figures.message}”`,
      };
    case "failed":
      return { state: "failed", headline: "The agent failed", detail: figures.error };
    case "finished":
      return figures.disconnected
        ? {
            state: "wasted",
            headline: `${tokens(wasted)} wasted`,
            detail: "The agent went on to the end. Nobody told it that you had left.",
          }
        : {
            state: "finished",
            headline: "Agent finished",
            detail: `${tokens(figures.tokens)}, all delivered`,
          };
    default:
      return figures.disconnected
        ? {
            state: "wasting",
            headline: `${tokens(wasted)} wasted`,
            detail: "You have left, but nobody told the agent. It is still writing.",
          }
        : { state: "running", headline: "Agent at work", detail: tokens(figures.tokens ?? 0) };
  }
}
