// Two graphs: side by side or overlaid, with what differs most in a tab.

import { createBanner } from "./banner.js";
import { Comparison } from "./comparison.js";
import { createDifferences } from "./list.js";
import { createPanes } from "./panes.js";
import { pinUnit } from "./source.js";

/** Mount this part of the page: put its elements into `places`, register its commands, listen to the state. */
export function mountDiff(app, places) {
  if (!app.diff) return;
  const comparison = new Comparison(app.diff, app);
  const banner = createBanner(app, comparison);
  const panes = createPanes(app, comparison);
  const differences = createDifferences(app, comparison, {
    open(unit) {
      pinUnit(app, comparison, unit);
      app.circuit?.show(comparison.nameIn(unit, app.store.page.file));
    },
    point: panes.point,
  });
  places.banner.append(banner.element);
  places.circuit.append(panes.element);
  places.drawer.add({ id: "differences", title: "Differences", element: differences.element });
  addCommands(app, places, panes);
  listen(app, { banner, panes, differences });
  panes.show(app.store.page.layout);
}

function listen(app, { banner, panes, differences }) {
  app.on("pruned", () => {
    banner.refresh();
    panes.refresh();
  });
  app.on("theme", () => panes.circuits.forEach((circuit) => circuit.restyle()));
  app.on("bands", panes.refresh);
  app.store.subscribe(({ file, keys }) => {
    const has = (...names) => names.some((name) => keys.includes(name));
    if (file === null) {
      if (has("layout")) panes.show(app.store.page.layout);
      if (has("layout", "statuses")) banner.refresh();
      if (!has("statuses")) return;
      panes.refresh();
      differences.refresh();
    } else if (has("labels")) {
      panes.refresh();
      differences.refresh();
    } else if (has("pins", "selected")) panes.circuits.forEach((circuit) => circuit.relight());
  });
}

function addCommands(app, places, panes) {
  for (const [layout, title, key] of [["one", "Show one graph", "1"], ["side", "Show both graphs side by side", "2"], ["overlay", "Overlay both graphs", "3"]]) {
    app.commands.add({ id: `compare.${layout}`, title, keys: [key], group: "Two graphs", pressed: () => app.store.page.layout === layout, run: () => app.store.updatePage({ layout }) });
  }
  app.commands.add({ id: "compare.other", title: "Go to the other graph", keys: ["X"], group: "Two graphs", run: () => app.store.updatePage({ file: 1 - Math.min(1, app.store.page.file) }) });
  app.commands.add({ id: "compare.reset", title: "Put both graphs back as they were laid out", group: "Two graphs", enabled: panes.isChanged, run: panes.reset });
  app.commands.add({ id: "compare.list", title: "Show what differs most", keys: ["W"], group: "Two graphs", run: () => places.drawer.show("differences") });
}
