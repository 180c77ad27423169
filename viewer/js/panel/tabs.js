// One tab for each pin, one for what is shown without a pin, and one that compares the pins.

import { visible } from "../data/visible.js";
import { h } from "../ui/dom.js";
import { subjectOf } from "../state/subject.js";
import { quietButton } from "./buttons.js";
import { groupOf } from "./group_view.js";
import { shortName } from "./names.js";

/** Return the tabs; null without any. */
export function tabBar(context, panel) {
  const { tabs, current, isComparing } = panel.selection;
  const names = current === null || tabs.includes(current) ? tabs : [...tabs, current];
  const entries = names.map((name) => tab(context, panel, name)).filter(Boolean);
  if (!entries.length) return null;
  if (tabs.length > 1) entries.push(compareTab(context, isComparing));
  return h("nav", { class: "pin-tabs", "aria-label": "Pins" }, h("ul", {}, entries));
}

function tab(context, panel, name) {
  const subject = groupOf(context, name) ?? subjectOf(context.graph, name);
  if (!subject) return null;
  const isCurrent = panel.selection.current === name && !panel.selection.isComparing;
  const isPinned = panel.selection.isPinned(name);
  const [word, leave] = isPinned ? ["Unpin", () => panel.unpin(name)] : ["Close", () => panel.show(null)];
  const title = isPinned ? name : `${name}, not pinned`;
  return h("li", { class: `pin-tab${isCurrent ? " current" : ""}${isPinned ? "" : " preview"}` },
    quietButton(`tab ${name}`, "tab-name", () => panel.show(name), { title, "aria-current": isCurrent && "true" }, tabName(context, subject)),
    quietButton(`close ${name}`, "tab-close", leave, { title: word, "aria-label": `${word} ${name}` }, "×"));
}

function compareTab({ app }, isCurrent) {
  const compare = () => app.commands.run("panel.compare");
  return h("li", { class: isCurrent ? "pin-tab current" : "pin-tab" },
    quietButton("tab compare", "tab-name", compare, { "aria-current": isCurrent && "true" }, "Compare"));
}

function tabName(context, { node, source, target, group }) {
  if (group) return h("bdi", { class: "group-name" }, visible(group.name));
  return node === undefined ? [shortName(context, source), "→", shortName(context, target)] : shortName(context, node);
}
