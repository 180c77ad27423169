// The tab of groups: the user's groups and the open suggestions.

import { h, replaceChildren } from "../ui/dom.js";
import { button, groupRow, suggestionRow } from "./rows.js";

const SHOWN = 100; // suggestions, until the user asks for all

/** Return {element, render, editName}: the tab, a function that fills it again, and one that edits the name of a group. */
export function createList(actions, scores) {
  const lists = h("div", { class: "groups-lists" });
  const element = h("div", { class: "groups" }, scores.element, lists);
  const view = { open: new Set(), editing: null, all: false, render, editName }; // open, editing: names of groups

  function render() {
    const key = lists.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const scrolled = [...lists.children].map((section) => section.scrollTop);
    replaceChildren(lists, groups(actions, view), suggestions(actions, view));
    [...lists.children].forEach((section, at) => (section.scrollTop = scrolled[at] ?? 0));
    if (key) focusOn(key);
  }
  function focusOn(key) {
    lists.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }
  function editName(group) {
    const before = view.editing;
    view.editing = group?.name ?? null;
    render();
    if (group) lists.querySelector(".group-form input").select();
    else focusOn(`rename ${before}`);
  }
  return { element, render, editName };
}

function groups(actions, view) {
  const all = actions.groups();
  const tools = all.length > 1 && button("Ungroup all", "ungroup-all", () => actions.ungroup(all));
  const hint = "Select nodes with Shift and a click, then press G to group them. Or accept a suggestion.";
  return section("Groups", all.length, tools, all.map((group) => groupRow(actions, view, group)), hint);
}

function suggestions(actions, view) {
  const open = actions.suggestions();
  const rows = open.slice(0, view.all ? open.length : SHOWN).map((suggestion) => suggestionRow(actions, suggestion));
  const showAll = () => {
    view.all = true;
    view.render();
  };
  if (rows.length < open.length) rows.push(h("li", {}, button(`Show all ${open.length}`, "show-all", showAll)));
  const tools = open.length > 0 && [
    button("Accept all", "accept-all", () => actions.accept(open)),
    button("Dismiss all", "dismiss-all", () => actions.dismiss(open)),
  ];
  return section("Suggestions", open.length, tools, rows, "None are open: all are accepted or dismissed, or the page came without.");
}

function section(title, number, tools, rows, hint) {
  return h("section", { "aria-label": title },
    h("header", {}, h("h3", {}, title, " ", h("span", { class: "faint" }, String(number))), tools),
    rows.length ? h("ul", {}, rows) : h("p", { class: "empty" }, hint));
}
