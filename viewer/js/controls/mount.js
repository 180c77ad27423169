// Controls of pruning: two thresholds, error nodes, and what they hide.

import { h } from "../ui/dom.js";
import { createSlider } from "./slider.js";
import { createSummary, hiddenText } from "./summary.js";
import { createThresholds, THRESHOLDS } from "./thresholds.js";

const QUIET_MS = 600; // without a change, before a screen reader says what is hidden

/** Mount the controls of the page's current file. */
export function mountControls(app, places) {
  const thresholds = createThresholds(app);
  const sliders = THRESHOLDS.map((threshold) => ({ ...threshold, ...createSlider(threshold, (value) => thresholds.set(threshold.key, value)) }));
  const errors = checkbox("All error nodes", "", (on) => thresholds.set("keepErrors", on));
  const together = checkbox("All graphs alike", "Prune all graphs of the page to the same thresholds", (on) => (thresholds.together = on));
  const summary = createSummary();
  together.box.checked = true;
  together.element.hidden = app.files.length < 2;
  places.controls.append(...sliders.map(({ element }) => element), errors.element, together.element, summary.element);

  const number = () => app.store.page.file;
  const render = () => {
    const [options, limits] = [thresholds.get(), thresholds.limits()];
    for (const { key, render: show } of sliders) show(options[key], limits[key]);
    errors.box.checked = options.keepErrors;
    errors.box.disabled = !limits.keepErrors;
    errors.element.title = limits.keepErrors ? "Keep all error nodes, whatever their influence" : "Error nodes were pruned from this graph";
  };
  const summarize = summarizer(app, summary, (error) => places.toasts.show(`The selection has no scores: ${error.message}`, { tone: "bad" }));
  const announce = announcer(app, () => hiddenText(app.results[number()]));
  app.on("pruned", ({ file }) => {
    if (file !== number()) return;
    summarize();
    if (places.controls.contains(document.activeElement)) announce();
  });
  app.store.subscribe(({ file, keys }) => {
    const concerns = (...own) => (file === null ? keys.includes("file") : file === number() && own.some((key) => keys.includes(key)));
    if (concerns("nodeThreshold", "edgeThreshold", "keepErrors")) render();
    if (concerns("selected")) summarize();
  });
  addCommands(app, thresholds, announce);
  render();
}

/** Return a function that shows the result of the current file and the scores of its selection; `say` gets an error. */
function summarizer(app, summary, say) {
  let scored = { selected: null, scores: null }; // a promise, asked for once: thresholds do not change it
  return async () => {
    const number = app.store.page.file;
    const [file, { selected }] = [app.files[number], app.store.file(number)];
    if (scored.selected !== selected) scored = { selected, scores: selectionScores(file, selected).catch(say) };
    const { scores } = scored;
    const shown = await scores;
    if (app.results[number] && scored.scores === scores) summary.render(file.graph, app.results[number], shown);
  };
}

/** Return a promise of the scores of selected nodes, by name; null without one. */
async function selectionScores({ graph, pruner }, selected) {
  const mask = new Uint8Array(graph.size);
  for (const node of selected.map((name) => graph.nodeOf(name))) if (node >= 0) mask[node] = 1;
  return mask.includes(1) ? pruner.scores(mask) : null;
}

function announcer(app, text) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => app.announce(text()), QUIET_MS);
  };
}

function checkbox(title, help, set) {
  const box = h("input", { type: "checkbox", onchange: () => set(box.checked) });
  return { box, element: h("label", { class: "check", title: help }, box, title) };
}

function addCommands(app, thresholds, announce) {
  const run = (change) => () => {
    change();
    announce();
  };
  for (const { key, title, keys } of THRESHOLDS) {
    const [fewer, more] = keys;
    const name = title.toLowerCase();
    app.commands.add({ id: `${key}.less`, repeats: true, title: `Show fewer ${name}`, keys: [fewer], group: "Pruning", run: run(() => thresholds.step(key, -1)) });
    app.commands.add({ id: `${key}.more`, repeats: true, title: `Show more ${name}`, keys: [more], group: "Pruning", run: run(() => thresholds.step(key, 1)) });
  }
  app.commands.add({
    id: "keepErrors", title: "Keep all error nodes", keys: ["K"], group: "Pruning",
    enabled: () => thresholds.limits().keepErrors, pressed: () => thresholds.get().keepErrors,
    run: run(() => thresholds.set("keepErrors", !thresholds.get().keepErrors)),
  });
  app.commands.add({ id: "prune.reset", title: "Prune to the default thresholds", group: "Pruning", run: run(thresholds.reset) });
}
