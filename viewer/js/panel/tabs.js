// One tab for each pin, one for what is shown without a pin, and one that compares the pins.

import { h } from "../ui/dom.js";
import { subjectOf } from "../state/subject.js";
import { shortName } from "./names.js";

/** Return the tabs; null without any. */
export function tabBar(context, panel) {
  const { selection } = panel;
  const names = selection.tabs.includes(selection.current) || selection.current === null ? selection.tabs : [...selection.tabs, selection.current];
  const entries = names.map((name) => tab(context, panel, name)).filter(Boolean);
  if (!entries.length) return null;
  const compare = selection.tabs.length > 1 && h("button", { type: "button", class: "quiet tab-name compare", "aria-current": selection.isComparing && "true",
    dataset: { key: "tab compare" }, onclick: () => context.app.commands.run("panel.compare") }, "Compare");
  return h("nav", { class: "pin-tabs", "aria-label": "Pins" }, h("ul", {}, entries, compare && h("li", { class: selection.isComparing ? "pin-tab current" : "pin-tab" }, compare)));
}

function tab(context, panel, name) {
  const subject = subjectOf(context.graph, name);
  if (!subject) return null;
  const { selection } = panel;
  const isCurrent = selection.current === name && !selection.isComparing;
  const isPinned = selection.isPinned(name);
  const [word, leave] = isPinned ? ["Unpin", () => unpin(context, name)] : ["Close", () => panel.show(null)];
  const remove = h("button", { type: "button", class: "quiet tab-close", "aria-label": `${word} ${name}`, title: word, onclick: leave }, "×");
  return h("li", { class: `pin-tab${isCurrent ? " current" : ""}${isPinned ? "" : " preview"}` },
    h("button", { type: "button", class: "quiet tab-name", title: isPinned ? name : `${name}, not pinned`, "aria-current": isCurrent && "true", dataset: { key: `tab ${name}` },
      onclick: () => panel.show(name) }, tabName(context, subject)), remove);
}

function tabName(context, { node, source, target }) {
  return node === undefined ? [shortName(context, source), "→", shortName(context, target)] : shortName(context, node);
}

function unpin({ app, file }, name) {
  app.store.update(file, { pins: app.store.file(file).pins.filter((each) => each !== name) });
}
