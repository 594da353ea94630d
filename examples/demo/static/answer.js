// The answer as HTML, while it grows. Empty lines separate its blocks, so new text changes only the
// last block, or adds blocks. The others stay in the page as they are.

export class AnswerView {
  #element;
  #text = "";
  #finishedBlocks = 0;

  constructor(element) {
    this.#element = element;
  }

  get text() {
    return this.#text;
  }

  clear() {
    this.#text = "";
    this.#finishedBlocks = 0;
    this.#element.replaceChildren();
  }

  append(text) {
    const element = this.#element;
    // Follow the text, unless the reader has scrolled up to read.
    const follow = element.scrollHeight - element.scrollTop - element.clientHeight < 40;

    this.#text += text;
    const blocks = this.#text.split("\n\n");
    while (element.children.length > this.#finishedBlocks) element.lastElementChild.remove();
    for (const block of blocks.slice(this.#finishedBlocks)) element.append(renderBlock(block));
    this.#finishedBlocks = blocks.length - 1;

    if (follow) element.scrollTop = element.scrollHeight;
  }
}

function renderBlock(block) {
  if (block.startsWith("## ")) return fill(document.createElement("h3"), block.slice(3));
  if (!block.startsWith("- ")) return fill(document.createElement("p"), block);
  const list = document.createElement("ul");
  for (const item of block.slice(2).split("\n- ")) {
    list.append(fill(document.createElement("li"), item));
  }
  return list;
}

/** Put `text` into `element`, with **strong**, *emphasis* and `code`. HTML in it stays text: a model wrote it. */
function fill(element, text) {
  const tags = { "**": "strong", "*": "em", "`": "code" };
  for (const part of text.split(/(\*\*[^*]+\*\*|\*[^*]+\*|`[^`]+`)/)) {
    const mark = ["**", "*", "`"].find((m) => part.length > 2 * m.length && part.startsWith(m) && part.endsWith(m));
    if (mark === undefined) {
      element.append(part);
      continue;
    }
    const child = document.createElement(tags[mark]);
    child.textContent = part.slice(mark.length, -mark.length);
    element.append(child);
  }
  return element;
}
