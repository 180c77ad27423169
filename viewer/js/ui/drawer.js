// The drawer below the circuit: tabs with tables and reports.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { roving } from "./roving.js";
import { splitter } from "./splitter.js";

/** The open tab is `page.tab` of the state, null for none; the event "drawer" has the id of the tab that is open now, or null. */
export class Drawer {
  constructor(app, root) {
    Object.assign(this, { app, root, tabs: new Map(), last: null });
    this.list = h("div", { class: "drawer-tabs", role: "tablist", "aria-label": "Tables and reports" });
    this.body = h("div", { class: "drawer-body" });
    this.button = h("button", { type: "button", class: "icon-button drawer-toggle", onclick: () => this.toggle() }, icon("chevron"));
    const edge = splitter({ element: this.body, variable: "--drawer-height", label: "Height of the drawer", orientation: "horizontal",
      least: 120, most: () => innerHeight - 220 });
    this.element = h("section", { class: "drawer", "aria-label": "Tables and reports" }, edge, h("div", { class: "drawer-bar" }, this.list, this.button), this.body);
    this.refreshFocus = roving(this.list);
    app.store.subscribe(({ keys }) => keys.includes("tab") && this.#apply());
    app.commands.add({ id: "drawer", title: "Open or close the drawer", keys: ["B"], group: "Page", run: () => this.toggle() });
  }

  /** Add a tab. */
  add({ id, title, element }) {
    const press = () => (this.app.store.page.tab === id ? this.close() : this.show(id));
    const tab = h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `tab-panel-${id}`, onclick: press }, title);
    const panel = h("div", { role: "tabpanel", id: `tab-panel-${id}`, "aria-labelledby": `tab-${id}` }, element);
    this.tabs.set(id, { tab, panel });
    this.list.append(tab);
    this.body.append(panel);
    this.#apply();
  }

  /** Open a tab; null closes the drawer. */
  show(id) {
    if (this.app.store.page.tab !== id) this.app.store.updatePage({ tab: id });
  }

  close() {
    this.show(null);
  }

  /** Close the drawer, or open the tab that was open last. */
  toggle() {
    this.show(this.app.store.page.tab === null ? (this.last ?? [...this.tabs.keys()][0] ?? null) : null);
  }

  #apply() {
    const id = this.tabs.has(this.app.store.page.tab) ? this.app.store.page.tab : null;
    this.last = id ?? this.last;
    this.root.dataset.drawer = id ? "open" : "closed";
    this.button.setAttribute("aria-expanded", String(id !== null));
    this.button.setAttribute("aria-label", id ? "Close the drawer" : "Open the drawer");
    this.tabs.forEach(({ tab, panel }, each) => {
      tab.setAttribute("aria-selected", String(each === id));
      panel.hidden = each !== id;
    });
    this.refreshFocus();
    this.app.emit("drawer", id);
  }
}
