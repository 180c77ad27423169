// The tab of groups: the user's groups and the open suggestions.

import { h, replaceChildren } from "../ui/dom.js";
import { button, groupRow, suggestionRow } from "./rows.js";

const [GROUPS, SUGGESTIONS] = ["Groups", "Suggestions"];
const SHOWN = 60; // rows of a list, until the user asks for all

/** Return {element, render, editName}: the tab, a function that fills it again, and one that edits the name of a group. */
export function createList(actions, scores) {
  const parts = [GROUPS, SUGGESTIONS].map((title) => h("section", { "aria-label": title })); // they stay, and so does how far they are scrolled
  const lists = h("div", { class: "groups-lists" }, parts);
  const element = h("div", { class: "groups" }, scores.element, lists);
  const view = { open: new Set(), editing: null, whole: new Set(), render, editName }; // open, editing: names of groups; whole: titles of lists

  function render() {
    const key = lists.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    replaceChildren(parts[0], groups(actions, view));
    replaceChildren(parts[1], suggestions(actions, view));
    if (key) focusOn(key);
  }
  function focusOn(key) {
    lists.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }
  function editName(group) {
    const before = view.editing;
    view.editing = group?.name ?? null;
    if (group) view.whole.add(GROUPS); // its row may be one of those that are not shown
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
  return content(view, GROUPS, all, (group) => groupRow(actions, view, group), tools, hint);
}

function suggestions(actions, view) {
  const open = actions.suggestions();
  const tools = open.length > 0 && [
    button("Accept all", "accept-all", () => actions.accept(open)),
    button("Dismiss all", "dismiss-all", () => actions.dismiss(open)),
  ];
  const hint = "None are open: all are accepted or dismissed, or the page came without.";
  return content(view, SUGGESTIONS, open, (suggestion) => suggestionRow(actions, suggestion), tools, hint);
}

function content(view, title, items, row, tools, hint) {
  const shown = items.slice(0, view.whole.has(title) ? items.length : SHOWN);
  const showAll = () => {
    view.whole.add(title);
    view.render();
  };
  const more = shown.length < items.length && h("li", {}, button(`Show all ${items.length}`, `all ${title}`, showAll));
  return [
    h("header", {}, h("h3", {}, title, " ", h("span", { class: "faint" }, String(items.length))), tools),
    items.length ? h("ul", {}, shown.map(row), more) : h("p", { class: "empty" }, hint),
  ];
}
