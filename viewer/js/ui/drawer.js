// The drawer below the circuit: tabs with tables and reports. The open tab is `page.tab` of the state, null for none.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { roving } from "./roving.js";
import { splitter } from "./splitter.js";

/**
 * Return {element, add, show, close}. `add({id, title, element})` adds a tab, `show(id)` opens one; the event "drawer" has the id
 * of the tab that is open now, or null.
 */
export function createDrawer(app) {
  const tabs = new Map();
  const list = h("div", { class: "drawer-tabs", role: "tablist", "aria-label": "Tables and reports" });
  const body = h("div", { class: "drawer-body" });
  const refreshFocus = roving(list);
  const show = (id) => app.store.page.tab !== id && app.store.updatePage({ tab: id });
  let lastId = null;
  const toggle = () => show(app.store.page.tab === null ? (lastId ?? [...tabs.keys()][0] ?? null) : null);
  const toggleButton = h("button", { type: "button", class: "icon-button drawer-toggle", onclick: toggle }, icon("chevron"));

  const apply = () => {
    const id = tabs.has(app.store.page.tab) ? app.store.page.tab : null;
    lastId = id ?? lastId;
    document.getElementById("app").dataset.drawer = id ? "open" : "closed";
    toggleButton.setAttribute("aria-expanded", String(id !== null));
    toggleButton.setAttribute("aria-label", id ? "Close the drawer" : "Open the drawer");
    tabs.forEach(({ tab, panel }, each) => {
      tab.setAttribute("aria-selected", String(each === id));
      panel.hidden = each !== id;
    });
    refreshFocus();
    app.emit("drawer", id);
  };
  app.store.subscribe(({ keys }) => keys.includes("tab") && apply());
  app.commands.add({ id: "drawer", title: "Open or close the drawer", keys: ["B"], group: "Page", run: toggle });

  const element = h("section", { class: "drawer", "aria-label": "Tables and reports" },
    h("div", { class: "drawer-bar" }, list, toggleButton), body);
  element.prepend(splitter({ element: body, variable: "--drawer-height", label: "Height of the drawer", orientation: "horizontal",
    least: 120, most: () => innerHeight - 220 }));
  return {
    element,
    add({ id, title, element: content }) {
      const tab = h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `tab-panel-${id}`,
        onclick: () => show(app.store.page.tab === id ? null : id) }, title);
      const panel = h("div", { role: "tabpanel", id: `tab-panel-${id}`, "aria-labelledby": `tab-${id}` }, content);
      tabs.set(id, { tab, panel });
      list.append(tab);
      body.append(panel);
      apply();
    },
    show,
    close: () => show(null),
  };
}
