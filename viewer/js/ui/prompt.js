// The head of the page: the prompt of the shown graph, and what the model says next.

import { printableLines, visible } from "../data/visible.js";
import { h, replaceChildren } from "./dom.js";
import { percent } from "./format.js";
import { icon } from "./icons.js";
import { pin } from "../state/pins.js";

const SHOWN_ANSWERS = 3;

/** Return a choice between the files of the page, null where there is one. */
export function createFileChoice(app) {
  if (app.files.length < 2) return null;
  const select = h("select", { class: "field file-choice", "aria-label": "Graph", onchange: () => app.store.updatePage({ file: Number(select.value) }) },
    app.files.map(({ name }, number) => h("option", { value: number }, visible(name))));
  const update = () => (select.value = app.store.page.file);
  app.store.subscribe(({ keys }) => keys.includes("file") && update());
  update();
  return select;
}

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
    title.textContent = title.title = promptOf(file.graph.info);
    fillAnswers();
    measure();
  };
  const fillAnswers = () => {
    const { targets } = app.files[app.store.page.file].graph.info;
    const chosen = targets.length > 1 ? targets[app.store.file(app.store.page.file).target] : undefined;
    replaceChildren(answers, shownTargets(targets, chosen).map((target) => answer(app, target, target === chosen)));
  };
  const measure = () => {
    if (!element.classList.contains("open")) more.hidden = title.scrollWidth <= title.clientWidth;
  };
  new ResizeObserver(measure).observe(title);
  app.store.subscribe(({ file, keys }) => {
    if (file === null && keys.includes("file")) fill();
    else if (file === app.store.page.file && keys.includes("target")) fillAnswers();
  });
  fill();
  return element;
}

/** Return the prompt in its lines, without the masked token that many begin with: <bos>. */
export function promptOf({ prompt, tokens, masked_positions: masked }) {
  const first = masked?.includes(0) && prompt !== tokens[0] && prompt.startsWith(tokens[0]) ? tokens[0].length : 0;
  return printableLines(prompt.slice(first));
}

/** Return the likeliest targets, with the chosen one among them. */
function shownTargets(targets, chosen) {
  const first = targets.slice(0, SHOWN_ANSWERS);
  return !chosen || first.includes(chosen) ? first : [...first.slice(0, -1), chosen];
}

/** Return the chip of a target, which goes to its node. */
function answer(app, { label, probability, node }, isChosen) {
  const share = probability !== null && h("span", { class: "number" }, percent(probability));
  return h("button", { type: "button", class: "chip answer", "aria-current": isChosen && "true", title: isChosen ? "Influence is shown on this target. Pin it" : "Pin this target", onclick: () => show(app, node) }, h("bdi", {}, visible(label.trim() || label)), share);
}

function show(app, node) {
  const { file } = app.store.page;
  pin(app, file, app.files[file].graph.nameOf(node));
  app.emit("focus", node);
}
