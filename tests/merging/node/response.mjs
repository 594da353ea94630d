// The response that a client gets from its `fetch`.

// The clients stop at the first error, and drop what they have read but not processed. So each piece
// completes one event only, and the client can process it before the next piece comes. The result
// at the time of an error does not depend on the pieces then.
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
