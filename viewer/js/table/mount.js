// The table of all nodes: search, filters, sorting, and a click that pins.

import { influenceErrors, nodeInfluence } from "../circuit/strength.js";
import { labelOf } from "../data/labels.js";
import { createSearch } from "../data/search.js";
import { pin, toggleSelected } from "../state/pins.js";
import { copyText } from "../ui/clipboard.js";
import { h } from "../ui/dom.js";
import { count, counted } from "../ui/format.js";
import { columnsOf } from "./columns.js";
import { createFilters } from "./filters.js";
import { Grid } from "./grid.js";
import { csvOf, rowsOf } from "./rows.js";

/** Mount the tab with the table of the shown file. */
export function mountTable(app, places) {
  const now = { file: null, columns: [], rows: [], sort: { id: "influence", descending: true } };
  const filters = createFilters(() => fill());
  const status = h("span", { class: "table-count", role: "status" });
  const copy = h("button", { type: "button", class: "quiet", onclick: () => app.commands.run("copy-table") }, "Copy as CSV");
  const grid = new Grid({ label: "Nodes", on: listeners(app, now, () => fill()), marks: (node) => marksOf(app, now, node) });
  const element = h("div", { class: "table" }, h("div", { class: "table-head" }, filters.element, h("span", { class: "table-end" }, status, copy)), grid.element);

  const fill = () => {
    if (!element.offsetParent) return; // the tab is closed
    if (now.file !== app.store.page.file) {
      now.file = app.store.page.file;
      filters.fill(app.files[now.file].graph);
    }
    const view = viewOf(app, now);
    now.columns = columnsOf(view);
    const column = now.columns.find(({ id }) => id === now.sort.id) ?? now.columns.find(({ id }) => id === "influence");
    now.rows = rowsOf(view, filters.values, { column, descending: now.sort.descending });
    status.textContent = now.rows.length === view.graph.size ? counted(now.rows.length, "node") : `${count(now.rows.length)} of ${count(view.graph.size)} nodes`;
    grid.show(now.rows, now.columns, { column, descending: now.sort.descending });
  };
  places.drawer.add({ id: "table", title: "Table", element });
  app.on("drawer", (id) => id === "table" && fill());
  app.on("pruned", ({ file }) => {
    if (file !== app.store.page.file) return;
    if (filters.values.onlyShown || now.sort.id === "shown" || file !== now.file) fill();
    else grid.refresh();
  });
  app.store.subscribe(({ keys }) => {
    if (keys.some((key) => ["file", "labels", "target"].includes(key))) fill();
    else if (keys.some((key) => ["pins", "selected"].includes(key))) grid.refresh();
  });
  registerCommands(app, places, now, fill, element);
}

function registerCommands(app, places, now, fill, element) {
  app.commands.add({ id: "table", title: "Table of all nodes", keys: ["N"], group: "Page", run: () => {
    places.drawer.show("table");
    element.querySelector(".filter-query").focus();
  } });
  app.commands.add({ id: "copy-table", title: "Copy the table to the clipboard (CSV)", group: "Export", run: async () => {
    places.drawer.show("table");
    fill();
    const isCopied = await copyText(csvOf(now.rows, now.columns));
    if (isCopied) places.toasts.show(`Copied ${counted(now.rows.length, "row")} as CSV`);
    else places.toasts.show("The browser does not let this page copy", { tone: "bad" });
  } });
  places.menu.add(app.commands.get("copy-table"));
}

function listeners(app, now, fill) {
  const nameOf = (node) => app.files[now.file].graph.nameOf(node);
  return {
    activate(node) {
      pin(app, now.file, nameOf(node));
      app.emit("focus", node);
    },
    select: (node) => toggleSelected(app, now.file, nameOf(node)),
    hover: (node) => app.emit("hover", node),
    sort(id) {
      const { isNumber } = now.columns.find((column) => column.id === id);
      now.sort = { id, descending: now.sort.id === id ? !now.sort.descending : Boolean(isNumber) };
      fill();
    },
  };
}

function marksOf(app, now, node) {
  const { pins, selected } = app.store.file(now.file);
  const name = app.files[now.file].graph.nameOf(node);
  return { pinned: pins.includes(name), selected: selected.includes(name), dim: app.results[now.file]?.nodes[node] === 0 };
}

/** Return what the columns and filters look at; the search is made again when labels change. */
function viewOf(app, now) {
  const { graph } = app.files[now.file];
  const { labels, target } = app.store.file(now.file);
  if (now.search?.labels !== labels || now.search.graph !== graph) {
    now.search = { labels, graph, ...createSearch(graph, labels) };
  }
  const influence = nodeInfluence(graph, target);
  const hasEffects = graph.table.getChild("effect") !== null && graph.info.targets.length > 0;
  return {
    graph,
    labels,
    search: now.search,
    influence,
    errors: influenceErrors(graph, target),
    mostInfluence: influence.reduce((most, each) => Math.max(most, each), 0),
    isShown: (node) => app.results[now.file]?.nodes[node] !== 0,
    hasLabel: (node) => labelOf(graph, node, labels) !== null,
    chosen: target,
    target: hasEffects ? (target ?? 0) : null,
  };
}
