// A chart of the stream as it came over the network. Each bar is a read, and its height is the number
// of events in it.

const SECONDS_SHOWN = 6;
const EVENTS_AT_FULL_HEIGHT = 8;

export class ReadsChart {
  #canvas;
  #reads = []; // {at: milliseconds, events: number}
  #until = null;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw(this.#until ?? performance.now())).observe(canvas);
  }

  start() {
    this.#reads = [];
    this.#until = null;
    const frame = (now) => {
      if (this.#until !== null) return;
      this.#draw(now);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  add(events) {
    this.#reads.push({ at: performance.now(), events });
  }

  stop() {
    this.#until = performance.now();
    this.#draw(this.#until);
  }

  #draw(now) {
    const scale = window.devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.#canvas.width = width * scale;
    this.#canvas.height = height * scale;

    const oldest = now - SECONDS_SHOWN * 1000;
    while (this.#reads.length > 0 && this.#reads[0].at < oldest) this.#reads.shift();

    const context = this.#canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = getComputedStyle(this.#canvas).color;
    for (const { at, events } of this.#reads) {
      const x = ((at - oldest) / (SECONDS_SHOWN * 1000)) * width;
      const bar = Math.min(1, events / EVENTS_AT_FULL_HEIGHT) * height;
      context.fillRect(x - 1.5, height - bar, 1.5, bar);
    }
  }
}
