// The frame of the page: header, tools, controls, circuit, side panel and drawer.

import { createToasts, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { Drawer } from "./drawer.js";
import { icon } from "./icons.js";
import { createMenu } from "./menu.js";
import { narrow } from "./narrow.js";
import { createFileChoice, createPrompt } from "./prompt.js";
import { SearchBox } from "./search.js";
import { splitter } from "./splitter.js";
import { mountTheme } from "./theme.js";
import { mountToolbar } from "./toolbar.js";

/**
 * Build the frame and return its places, where the other parts put their elements:
 *
 *   circuit, controls, panel    elements: fill them
 *   banner                      an element above the circuit, for what a page must say first
 *   drawer                      add({id, title, element}) adds a tab; show(id), close()
 *   menu                        add(entry) with {title, run, group, keys?, enabled?}, which a command is as well
 *   dialogs                     open({title, content, actions}), as `openDialog`
 *   toasts                      show(text, {tone, action})
 *   showPanel                   opens the side panel where it is closed
 *
 * Buttons of tools are not put anywhere: a command with `toolbar` and `icon` has one (ui/commands.js).
 */
export function mountShell(app, root) {
  const places = {
    controls: h("section", { class: "controls", "aria-label": "Pruning" }),
    banner: h("div", { class: "banner" }),
    circuit: h("section", { class: "circuit", "aria-label": "Circuit" }),
    panel: h("div", { class: "panel" }),
    drawer: new Drawer(app, root),
    menu: createMenu(),
    dialogs: { open: openDialog },
    toasts: createToasts(app, root.parentElement),
    showPanel: () => setPanel(app, root, true),
  };
  root.className = "page";
  root.dataset.drawer = "closed";
  root.replaceChildren(
    header(app, places),
    bar(app, root, places),
    places.banner,
    h("main", { class: "stage" }, places.circuit, toolbar(app, "view", "View")),
    panelFrame(app, root, places),
    places.drawer.element,
    h("div", { id: "live", class: "visually-hidden", "aria-live": "polite" }),
  );
  mountTheme(app);
  registerPanel(app, root);
  app.store.subscribe(({ keys }) => keys.some((key) => key !== "view") && app.commands.refresh());
  return places;
}

function toolbar(app, name, label) {
  const element = h("div", { class: `${name}-tools`, role: "toolbar", "aria-label": label });
  mountToolbar(app, element, name);
  return element;
}

function header(app, places) {
  const pageTools = toolbar(app, "page", "Page");
  return h("header", { class: "header" },
    h("span", { class: "brand", title: "cotrace" }, icon("brand")),
    createFileChoice(app),
    createPrompt(app),
    h("div", { class: "header-tools" }, h("div", { class: "search-place" }, new SearchBox(app).element), pageTools, places.menu.element));
}

function bar(app, root, places) {
  root.dataset.controls = "closed"; // on a phone only
  const toggle = () => {
    const isOpen = root.dataset.controls === "closed";
    root.dataset.controls = isOpen ? "open" : "closed";
    button.setAttribute("aria-expanded", String(isOpen));
  };
  const button = h("button", { type: "button", class: "controls-toggle", "aria-expanded": "false", onclick: toggle }, icon("sliders"), "Pruning");
  return h("section", { class: "bar", "aria-label": "Tools" }, toolbar(app, "edit", "Edit"), button, places.controls);
}

function panelFrame(app, root, places) {
  const close = h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: () => setPanel(app, root, false) }, icon("close"));
  const frame = h("aside", { class: "panel-frame", "aria-label": "Details" }, h("h2", { class: "visually-hidden" }, "Details"), h("div", { class: "panel-head" }, close), places.panel);
  frame.prepend(splitter({ element: frame, variable: "--panel-width", label: "Width of the details", orientation: "vertical",
    least: 240, most: () => Math.max(240, innerWidth - 320) }));
  return frame;
}

/** The panel is open where there is room; on a phone it opens with the first pin and whenever the pins change. */
function registerPanel(app, root) {
  const reset = () => setPanel(app, root, !narrow.matches);
  narrow.addEventListener("change", reset);
  app.store.subscribe(({ keys }) => {
    if (narrow.matches && keys.includes("pins")) setPanel(app, root, app.store.file(app.store.page.file).pins.length > 0);
  });
  app.commands.add({
    id: "panel", title: "Show or hide the details", icon: "details", keys: ["I"], group: "Page", toolbar: "page",
    pressed: () => root.dataset.panel === "open",
    run: () => setPanel(app, root, root.dataset.panel === "closed"),
  });
  reset();
}

function setPanel(app, root, isOpen) {
  root.dataset.panel = isOpen ? "open" : "closed";
  app.commands.refresh();
}
