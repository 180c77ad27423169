// The frame of the page: header, toolbar, circuit, side panel and drawer.

import { h } from "./dom.js";

/**
 * Build the frame and return its places, where the other parts put their elements:
 * {toolbar, controls, circuit, panel, drawer, menu}. `drawer.add({id, title, element})` adds a tab.
 */
export function mountShell(app, root) {
  const place = (name, tag = "div", properties = {}) => h(tag, { class: name, ...properties });
  const places = {
    toolbar: place("toolbar", "div", { role: "toolbar", "aria-label": "Tools" }),
    controls: place("controls", "section", { "aria-label": "Pruning" }),
    circuit: place("circuit", "section", { "aria-label": "Circuit" }),
    panel: place("panel", "aside", { "aria-label": "Details" }),
    tabs: place("drawer", "section", { "aria-label": "Tables" }),
  };
  const live = h("div", { id: "live", class: "visually-hidden", "aria-live": "polite" });
  const title = h("h1", {}, app.files[0].graph.info.prompt);
  root.replaceChildren(h("header", {}, title, places.toolbar, places.controls), places.circuit, places.panel, places.tabs, live);
  return { ...places, drawer: { add: ({ element }) => places.tabs.append(element) }, menu: { add: () => {} } };
}
