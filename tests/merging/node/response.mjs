// The response that a client gets from its `fetch`.

// The clients end a run at its first error, and forget then what they have read but not yet dealt
// with. So each piece completes one event only, and the client may finish with it before the next:
// what it had by the time of an error does not depend on where the network would have cut.
function* pieces(body) {
  let from = 0;
  let beginning = 0;
  for (const { index, 0: blank } of body.toString("latin1").matchAll(/\r?\n\r?\n/g)) {
    const middle = Math.floor((beginning + index) / 2);
    if (middle > from) yield body.subarray(from, middle);
    from = middle;
    beginning = index + blank.length;
  }
  if (from < body.length) yield body.subarray(from);
}

function everythingElse() {
  return new Promise((resolve) => setImmediate(resolve));
}

export function response(body, headers = {}) {
  const cut = pieces(body);
  const stream = new ReadableStream({
    async pull(controller) {
      await everythingElse();
      const { value, done } = cut.next();
      if (done) controller.close();
      else controller.enqueue(new Uint8Array(value));
    },
  });
  return new Response(stream, { headers: { "content-type": "text/event-stream", ...headers } });
}
