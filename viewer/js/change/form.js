// The form of a change: which nodes, what is done to them, and what is computed.

import { labelOf } from "../data/labels.js";
import { h, replaceChildren } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { EDIT_KINDS, FREEZES, editable, isOfTokens, newNodes, problemOf, tokensProblem, withEdit, withNodes } from "./draft.js";

const MOST_CHIPS = 6;

/**
 * Return {element, render, renderProgress}. `view` has `draft`, `set(draft)` which replaces it and renders, `write(draft)` which
 * only replaces it, `obstacle` (why the model cannot be run; null if it can, undefined while that is unknown), `runner` and `run()`.
 */
export function createForm(app, view) {
  const [body, foot] = [h("div", { class: "change-body" }), h("div", { class: "change-footer" })];
  const renderProgress = () => refill(foot, footer(view));
  const render = () => {
    refill(body, [edits(app, view), sources(app, view), options(view)]);
    renderProgress();
  };
  const onsubmit = (event) => (event.preventDefault(), view.run());
  return { element: h("form", { class: "change-form", "aria-label": "Change the model", onsubmit }, body, foot), render, renderProgress };
}

/** Put new children into an element; what has the focus keeps it, by its key. What takes its place gets it: "Cancel" that of "Run". */
function refill(element, children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  replaceChildren(element, children);
  if (key) (element.querySelector(`[data-key="${CSS.escape(key)}"]`) ?? element.querySelector("[data-key]:enabled"))?.focus();
}

/** Return what is wrong with a draft, or "". */
export function draftProblem(graph, draft) {
  if (!draft.edits.length) return "Choose nodes first.";
  return draft.edits.map((edit) => problemOf(graph, edit)).find(Boolean) ?? tokensProblem(draft);
}

// --- edits -------------------------------------------------------------------------------------

function edits(app, view) {
  const rows = view.draft.edits.map((edit, at) => editRow(app, view, edit, at));
  return rows.length ? h("ul", { class: "change-edits" }, rows) : h("p", { class: "muted" }, "Choose what to change: select or pin nodes in the circuit, then add them here.");
}

function editRow(app, view, edit, at) {
  const { graph } = app.files[app.store.page.file];
  const set = (values) => view.set(withEdit(view.draft, at, values));
  const kind = h("select", { "aria-label": "Edit", dataset: { key: `kind ${at}` }, onchange: ({ target }) => set({ kind: target.value, value: EDIT_KINDS.find(({ id }) => id === target.value).value ?? "" }) },
    EDIT_KINDS.map(({ id, title }) => h("option", { value: id, selected: id === edit.kind }, title)));
  return h("li", { class: "change-edit" },
    h("div", { class: "change-what" }, kind, edit.kind !== "ablate" && valueField(graph, view, edit, at),
      h("button", { type: "button", class: "icon-button", "aria-label": "Remove this edit", dataset: { key: `remove ${at}` }, onclick: () => set({ nodes: [] }) }, icon("close"))),
    h("div", { class: "change-chips" }, edit.group && h("strong", {}, edit.group), chips(app, edit, set)));
}

function valueField(graph, view, edit, at) {
  const isText = edit.kind === "set" && isOfTokens(graph, edit.nodes);
  const names = isText ? { "aria-label": "Token", placeholder: "text of a token" } : { "aria-label": "Value", inputmode: "decimal", placeholder: "number" };
  const field = h("input", { class: "field", size: isText ? 12 : 6, value: edit.value, dataset: { key: `value ${at}` }, autocomplete: "off", ...names });
  field.addEventListener("input", () => view.write(withEdit(view.draft, at, { value: field.value })));
  return field;
}

function chips(app, edit, set) {
  const { graph } = app.files[app.store.page.file];
  const { labels } = app.store.file(app.store.page.file);
  const without = (name) => set({ nodes: edit.nodes.filter((each) => each !== name), group: null });
  const chip = (name) => h("span", { class: "chip", title: labelOf(graph, graph.nodeOf(name), labels)?.text }, h("span", { class: "mono" }, name),
    h("button", { type: "button", class: "chip-button", "aria-label": `Leave out ${name}`, onclick: () => without(name) }, icon("close")));
  const more = edit.nodes.length - MOST_CHIPS;
  return [edit.nodes.slice(0, MOST_CHIPS).map(chip), more > 0 && h("span", { class: "muted" }, `and ${more} more`)];
}

// --- where nodes come from ---------------------------------------------------------------------

/** Return buttons that add the selection, the last pin or a group. */
function sources(app, view) {
  const { graph } = app.files[app.store.page.file];
  const { selected, pins, groups } = app.store.file(app.store.page.file);
  const add = (names, group = null) => view.set(withNodes(view.draft, editable(graph, names), group));
  const fresh = (names) => newNodes(view.draft, editable(graph, names));
  const button = (title, names) => fresh(names).length > 0 &&
    h("button", { type: "button", dataset: { key: `add ${title}` }, onclick: () => add(names) }, icon("plus"), title);
  const choice = h("select", { "aria-label": "Add a group", dataset: { key: "group" }, onchange: ({ target }) => {
    const group = groups[Number(target.value)];
    if (group) add(group.nodes, group.name);
  } }, h("option", { value: "" }, "Add a group…"), groups.map(({ name }, at) => h("option", { value: at }, name)));
  return h("div", { class: "change-sources" },
    button(`Selection (${fresh(selected).length})`, selected),
    pins.length > 0 && button(pins.at(-1), [pins.at(-1)]),
    groups.length > 0 && choice);
}

// --- options -----------------------------------------------------------------------------------

function options(view) {
  const { draft } = view;
  const tokens = h("input", { class: "field", size: 4, inputmode: "numeric", value: draft.tokens, dataset: { key: "tokens" } });
  tokens.addEventListener("input", () => view.write({ ...view.draft, tokens: tokens.value }));
  const freeze = h("select", { dataset: { key: "freeze" }, onchange: ({ target }) => view.set({ ...view.draft, freeze: target.value }) },
    FREEZES.map(({ id, title }) => h("option", { value: id, selected: id === draft.freeze }, title)));
  const everywhere = h("input", { type: "checkbox", checked: draft.everywhere, dataset: { key: "everywhere" }, onchange: ({ target }) => view.set({ ...view.draft, everywhere: target.checked }) });
  return h("div", { class: "change-options" },
    h("label", {}, "Frozen ", freeze),
    h("label", {}, "New tokens ", tokens),
    h("label", {}, everywhere, " At all positions and new tokens"));
}

function footer(view) {
  const { job, error } = view.runner;
  const canRun = view.obstacle === null && view.draft.edits.length > 0;
  return [
    job ? progress(view.runner) : h("button", { type: "submit", class: "primary", disabled: !canRun, dataset: { key: "run" } }, icon("play"), "Run"),
    view.obstacle && h("p", { class: "change-problem" }, `The model cannot be run: ${view.obstacle}.`),
    view.obstacle === undefined && h("p", { class: "muted" }, "Looking for the model…"),
    (view.problem || error) && h("p", { class: "change-problem", role: "alert" }, view.problem || error),
  ];
}

function progress({ job, cancel }) {
  const share = job.total ? { value: job.done, max: job.total } : {};
  const words = job.state === "waiting" ? "waiting" : job.total ? `${job.phase} ${job.done} of ${job.total}` : job.phase;
  return h("div", { class: "change-progress" },
    h("progress", { "aria-label": "Progress", ...share }), h("span", { class: "muted" }, words),
    h("button", { type: "button", dataset: { key: "cancel" }, onclick: cancel }, "Cancel"));
}
