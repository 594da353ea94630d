// An incremental parser of server-sent events. The network may cut the stream anywhere.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

export class EventParser {
  #decoder = new TextDecoder(); // keeps part of a character until the rest arrives
  #text = "";                   // the line whose end has not arrived yet
  #afterCarriageReturn = false; // a line feed that follows ends the same line
  #data = [];
  #type = "";

  /** Return the events that end within `bytes`, as `{type, data}`. */
  push(bytes) {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    const events = [];
    for (let line = this.#nextLine(); line !== null; line = this.#nextLine()) {
      if (line !== "") {
        this.#field(line);
        continue;
      }
      // An empty line dispatches the event, unless it has no data field.
      if (this.#data.length > 0) {
        events.push({ type: this.#type || "message", data: this.#data.join("\n") });
      }
      this.#data = [];
      this.#type = "";
    }
    return events;
  }

  #nextLine() {
    if (this.#afterCarriageReturn && this.#text !== "") {
      if (this.#text[0] === "\n") this.#text = this.#text.slice(1);
      this.#afterCarriageReturn = false;
    }
    const end = this.#text.search(/[\r\n]/);
    if (end === -1) return null;
    const line = this.#text.slice(0, end);
    this.#afterCarriageReturn = this.#text[end] === "\r";
    this.#text = this.#text.slice(end + 1);
    return line;
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    if (name === "event") this.#type = value;
    // The fields "id" and "retry" are for reconnecting, which this page does not do.
  }
}
