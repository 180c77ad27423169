// The side panel: tabs of the pins, and everything about the one that is shown.

import { count } from "../ui/format.js";
import { copyText } from "../ui/clipboard.js";
import { h, replaceChildren } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { pin } from "../state/pins.js";
import { subjectOf } from "../state/subject.js";
import { contextOf } from "./context.js";
import { edgeView } from "./edge_view.js";
import { mountHoverCard } from "./hover_card.js";
import { nodeView } from "./node_view.js";
import { overview } from "./overview.js";
import { pinTable } from "./pin_table.js";
import { createSelection } from "./selection.js";
import { tabBar } from "./tabs.js";

/** Mount this part of the page: put its elements into `places`, register its commands, listen to the state. */
export function mountPanel(app, places) {
  const panel = createPanel(app, places);
  places.panel.append(panel.element);
  registerCommands(app, places, panel);
  mountHoverCard(app, places, (open) => contextOf(app, app.store.page.file, open));
  app.store.subscribe(({ file, keys }) => {
    if (file === null && keys.includes("file")) panel.reset();
    else if (file === app.store.page.file && keys.includes("pins")) panel.follow();
    else if (file === app.store.page.file && keys.some((key) => ["labels", "target", "groups"].includes(key))) panel.render();
  });
  app.on("pruned", ({ file }) => file === app.store.page.file && panel.update());
  app.on("focus", (node) => node !== null && panel.show(app.files[app.store.page.file].graph.nameOf(node)));
  panel.render();
}

function createPanel(app, places) {
  const [tabs, body] = [h("div"), h("div", { class: "panel-body", role: "group", tabindex: -1 })];
  const element = h("div", {}, tabs, body);
  let [selection, view, shown, waiting] = [null, null, null, false];

  const open = (name) => {
    const { graph } = app.files[app.store.page.file];
    const { node } = subjectOf(graph, name) ?? {};
    if (node === undefined) panel.show(name);
    else app.emit("focus", node);
  };
  const panel = {
    element,
    body,
    get selection() {
      return selection;
    },
    get file() {
      return app.store.page.file;
    },
    reset() {
      selection = createSelection(app.store.file(panel.file).pins);
      panel.render();
    },
    follow() {
      selection.follow(app.store.file(panel.file).pins);
      panel.render();
    },
    show(name) {
      selection.show(name);
      panel.render();
    },
    edit: () => view.edit?.(),
    /** Build everything again; the focus stays at the control with the same key, and the place where it is the same subject. */
    render() {
      const context = contextOf(app, panel.file, open);
      const subject = selection.isComparing || selection.current === null ? null : subjectOf(context.graph, selection.current);
      view = selection.isComparing ? pinTable(context) : viewOf(context, subject, actions(app, places, panel, subject));
      body.setAttribute("aria-label", selection.isComparing ? "Pinned nodes" : selection.current ?? "Overview");
      const [same, top] = [shown === keyOf(panel), places.panel.scrollTop];
      shown = keyOf(panel);
      keepFocus(element, body, () => {
        replaceChildren(tabs, tabBar(context, panel));
        replaceChildren(body, view.element);
      });
      revealCurrent(tabs);
      places.panel.scrollTop = same ? top : 0;
      app.commands.refresh();
    },
    /** Read the pruning again, at most once per frame: sliders ask more often. */
    update() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        keepFocus(element, body, () => view.update());
      });
    },
  };
  selection = createSelection(app.store.file(panel.file).pins);
  return panel;
}

function keyOf({ file, selection }) {
  return JSON.stringify([file, selection.isComparing, selection.current]);
}

function viewOf(context, subject, buttons) {
  if (!subject) return overview(context);
  return subject.node === undefined ? edgeView(context, subject, buttons) : nodeView(context, subject.node, buttons);
}

/** Change what is inside of `element`; the focus goes to the control with the same key, or else to `body`. */
function keepFocus(element, body, change) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key ?? "" : null;
  change();
  if (key === null || element.contains(document.activeElement)) return;
  (element.querySelector(`[data-key="${CSS.escape(key)}"]`) ?? body).focus({ preventScroll: true });
}

/** Scroll the tabs, and only these, so that the present one is seen. */
function revealCurrent(tabs) {
  const [list, current] = [tabs.querySelector("ul"), tabs.querySelector(".current")];
  if (!current) return;
  const [outer, inner] = [list.getBoundingClientRect(), current.getBoundingClientRect()];
  if (inner.left < outer.left) list.scrollLeft += inner.left - outer.left;
  else if (inner.right > outer.right) list.scrollLeft += inner.right - outer.right;
}

/** Return the buttons beside the name of a subject. */
function actions(app, places, panel, subject) {
  if (!subject) return null;
  const { selection } = panel;
  const button = (key, title, name, onclick, properties = {}) =>
    h("button", { type: "button", class: "icon-button small", title, "aria-label": title, dataset: { key }, onclick, ...properties }, icon(name));
  const isPinned = selection.isPinned(subject.name);
  return h("span", { class: "subject-actions" },
    selection.canGoBack && button("back", "Back", "down", () => app.commands.run("panel.back")),
    button("copy", `Copy the name ${subject.name}`, "copy", async () => (await copyText(subject.name)) && places.toasts.show(`Copied ${subject.name}`)),
    button("pin", isPinned ? "Unpin" : "Pin", "pin", () => app.commands.run("panel.pin"), { "aria-pressed": String(isPinned) }));
}

function registerCommands(app, places, panel) {
  const hasCurrent = () => panel.selection.current !== null && !panel.selection.isComparing;
  const add = (id, title, keys, run, enabled) => app.commands.add({ id: `panel.${id}`, title, keys, run, enabled, group: "Details" });
  add("enter", "Go to the details", ["Shift+I"], () => {
    places.showPanel();
    panel.body.focus();
  });
  add("pin", "Pin or unpin what the details show", ["P"], () => togglePin(app, panel), hasCurrent);
  add("label", "Edit the label", ["L"], () => panel.edit(), hasCurrent);
  add("back", "Back to what the details showed before", ["Backspace"], () => {
    panel.selection.back();
    panel.render();
  }, () => panel.selection.canGoBack);
  add("close", "Leave what the details show", ["Escape"], () => panel.show(null), () => panel.selection.current !== null);
  for (const [id, title, key, step] of [["next", "Next pin", ".", 1], ["previous", "Previous pin", ",", -1]]) {
    add(id, title, [key], () => {
      panel.selection.step(step);
      panel.render();
    }, () => panel.selection.tabs.length > 0);
  }
  add("compare", "Compare the pins", ["Shift+P"], () => {
    panel.selection.compare();
    panel.render();
    app.announce(`${count(panel.selection.tabs.length)} pins`);
  }, () => panel.selection.tabs.length > 1);
}

function togglePin(app, { file, selection }) {
  const name = selection.current;
  if (!selection.isPinned(name)) pin(app, file, name);
  else app.store.update(file, { pins: app.store.file(file).pins.filter((each) => each !== name) });
}
