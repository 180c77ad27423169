// The menu of the page: what has no button of its own.

import { shownKey, titleOf } from "./commands.js";
import { h, replaceChildren } from "./dom.js";
import { icon } from "./icons.js";
import { roving } from "./roving.js";

/**
 * Return {button, add}. `add` takes an entry {title, run, group, keys?, enabled?}, which is what a command is as well:
 * `menu.add(app.commands.get("export-svg"))`. Entries stand below their group.
 */
export function createMenu() {
  const entries = [];
  const list = h("div", { id: "menu", class: "menu", role: "menu", "aria-label": "Menu", popover: "auto" });
  const button = h("button", { type: "button", class: "icon-button", "aria-label": "Share, export and more", title: "Share, export and more",
    "aria-haspopup": "menu", "aria-expanded": "false", popovertarget: "menu" }, icon("share"));
  const refreshFocus = roving(list, "[role=menuitem]");
  list.addEventListener("beforetoggle", ({ newState }) => newState === "open" && fill(list, entries));
  list.addEventListener("toggle", ({ newState }) => {
    button.setAttribute("aria-expanded", String(newState === "open"));
    if (newState !== "open") return;
    placeBelow(list, button);
    refreshFocus();
    list.querySelector("[role=menuitem]:not(:disabled)")?.focus();
  });
  return { element: h("span", {}, button, list), add: (entry) => entries.push(entry) };
}

function fill(list, entries) {
  const groups = [...new Set(entries.map(({ group }) => group ?? "Other"))];
  const item = (entry) => h("button", { type: "button", role: "menuitem", disabled: entry.enabled && !entry.enabled(),
    onclick: () => (list.hidePopover(), entry.run()) }, h("span", {}, titleOf(entry)), entry.keys?.[0] && h("kbd", {}, shownKey(entry.keys[0])));
  replaceChildren(list, groups.map((group) =>
    h("div", { role: "group", "aria-label": group }, h("p", { class: "menu-group", "aria-hidden": true }, group),
      entries.filter((entry) => (entry.group ?? "Other") === group).map(item))));
}

/** Put a popover below a button, inside of the window. */
function placeBelow(popover, button) {
  const box = button.getBoundingClientRect();
  popover.style.top = `${box.bottom + 6}px`;
  popover.style.left = `${Math.max(8, Math.min(box.right, innerWidth - 8) - popover.offsetWidth)}px`;
}
