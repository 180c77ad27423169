// The head of the page: the prompt of the graph that is looked at, and what the model says next.

import { h, replaceChildren } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_ANSWERS = 3;

/** Return the element with the prompt and the likeliest targets, which follows the file of the state. */
export function createPrompt(app) {
  const title = h("h1", { dir: "auto" });
  const answers = h("div", { class: "answers" });
  const more = h("button", { type: "button", class: "icon-button prompt-more", "aria-label": "Whole prompt", "aria-expanded": "false", onclick: toggle }, icon("down"));
  const element = h("div", { class: "prompt" }, title, more, answers);

  function toggle() {
    more.setAttribute("aria-expanded", String(element.classList.toggle("open")));
  }
  const fill = () => {
    const file = app.files[app.store.page.file];
    title.textContent = title.title = file.graph.info.prompt;
    replaceChildren(answers, file.graph.info.targets.slice(0, SHOWN_ANSWERS).map((target) => answer(app, target)));
    measure();
  };
  const measure = () => {
    if (!element.classList.contains("open")) more.hidden = title.scrollWidth <= title.clientWidth;
  };
  new ResizeObserver(measure).observe(title);
  app.store.subscribe(({ file, keys }) => file === null && keys.includes("file") && fill());
  fill();
  return element;
}

/** Return the chip of a target, which goes to its node. */
function answer(app, { label, probability, node }) {
  const share = probability !== null && h("span", { class: "number" }, `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)}%`);
  return h("button", { type: "button", class: "chip answer", title: "Show this target", onclick: () => app.emit("focus", node) }, h("bdi", {}, label.trim() || label), share);
}
