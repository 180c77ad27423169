// The tab in which the model is changed, and a look at files that change on disk. Both need the local server.

import { h, replaceChildren } from "../ui/dom.js";
import { EMPTY_DRAFT, editable, withNodes } from "./draft.js";
import { createForm, draftProblem } from "./form.js";
import { headline, resultView } from "./result.js";
import { createRunner } from "./runner.js";
import { watchFiles } from "./watch.js";

const TAB = "change";
const SHOWN = ["selected", "pins", "groups", "labels", "file"]; // keys of the state that the form shows

/** Mount what needs the local server; a page in a file says how to start one. */
export function mountChange(app, places) {
  if (app.server) watchFiles(app, places);
  const element = h("div", { class: "change" });
  places.drawer.add({ id: TAB, title: "Change", element });
  if (app.server?.canChange) mountForm(app, places, element);
  else replaceChildren(element, h("p", { class: "empty" }, "Here nodes are ablated, multiplied or set in the model itself. This needs the model: open the graph file with ",
    h("code", { class: "mono" }, "cotrace view FILE"), "."));
}

function mountForm(app, places, element) {
  const results = h("div", { class: "change-result" });
  const past = h("ol", { class: "change-history", "aria-label": "Changes" });
  const view = {
    draft: EMPTY_DRAFT,
    obstacle: undefined,
    problem: "",
    write(draft) {
      view.draft = draft;
      view.problem = "";
    },
    set(draft) {
      view.write(draft);
      render();
    },
    run(draft = view.draft) {
      const number = app.store.page.file;
      view.problem = draftProblem(app.files[number].graph, draft);
      if (view.problem || view.obstacle !== null) render();
      else view.runner.run(number, draft);
    },
  };
  const form = createForm(app, view);
  const render = () => {
    if (app.store.page.tab !== TAB) return;
    form.render();
    replaceChildren(past, view.runner.history.map((change) => historyRow(app, view, change)));
    replaceChildren(results, shownResult(app, view.runner));
  };
  view.runner = createRunner(app, { onchange: render, onprogress: form.renderProgress });
  replaceChildren(element, h("div", { class: "change-left" }, form.element, past), results);
  followModel(app, view, render);
  addCommands(app, places, view);
}

/** Ask whether the model of the shown file can be run, once the tab is open. */
function followModel(app, view, render) {
  const obstacles = new Map(); // by number of the file: a promise
  view.askObstacle = (file) => {
    if (!obstacles.has(file)) obstacles.set(file, app.server.modelObstacle(file).catch((error) => error.message));
    return obstacles.get(file);
  };
  const ask = async () => {
    const { file, tab } = app.store.page;
    if (tab !== TAB) return;
    const obstacle = await view.askObstacle(file);
    if (app.store.page.file !== file) return;
    view.obstacle = obstacle;
    render();
  };
  app.on("drawer", () => (render(), ask()));
  app.store.subscribe(({ keys }) => {
    if (keys.includes("file")) Object.assign(view, { draft: EMPTY_DRAFT, obstacle: undefined, problem: "" });
    if (keys.some((key) => SHOWN.includes(key))) render();
    if (keys.includes("file")) ask();
  });
}

function addCommands(app, places, view) {
  const chosen = () => {
    const { file } = app.store.page;
    const { selected, pins } = app.store.file(file);
    return editable(app.files[file].graph, selected.length ? selected : pins.slice(-1));
  };
  const take = () => {
    places.drawer.show(TAB);
    view.set(withNodes(view.draft, chosen()));
  };
  const ablate = () => {
    places.drawer.show(TAB);
    const draft = withNodes({ ...view.draft, edits: [] }, chosen());
    if (!view.draft.edits.length) view.set(draft); // else the form keeps what was composed in it
    runWhenKnown(app, view, draft);
  };
  app.commands.add({ id: "change", title: "Add the selection, or the last pin, to the change of the model", icon: "change", keys: ["Shift+A"], group: "Model",
    toolbar: "edit", enabled: () => chosen().length > 0, run: take });
  app.commands.add({ id: "change-ablate", title: "Ablate the selection, or the last pin, in the model", keys: ["A"], group: "Model",
    enabled: () => chosen().length > 0 && view.runner.job === null, run: ablate });
}

/** Run a draft, after the first answer to whether there is a model; not on another file that is shown by then. */
async function runWhenKnown(app, view, draft) {
  const { file } = app.store.page;
  const obstacle = view.obstacle === undefined ? await view.askObstacle(file) : view.obstacle;
  if (app.store.page.file !== file) return;
  view.obstacle = obstacle;
  view.run(draft);
}

function historyRow(app, view, change) {
  const show = () => {
    view.runner.show(change);
  };
  const name = app.files.length > 1 ? h("span", { class: "faint" }, app.files[change.file].name) : null;
  return h("li", {}, h("button", { type: "button", class: "quiet", "aria-pressed": String(view.runner.shown === change), onclick: show },
    h("span", { class: "change-title" }, change.title), name, h("span", { class: "number" }, headline(change.result))));
}

function shownResult(app, { shown, history }) {
  if (shown) return [h("p", { class: "change-heading" }, shown.title), resultView(shown.result, app.files[shown.file].graph.info.prompt)];
  return h("p", { class: "empty" }, history.length ? "Choose a change." : "Run a change: the next token and the texts without and with it appear here.");
}
