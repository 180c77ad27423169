// The side panel in the page.

import { addCommands } from "./commands.js";
import { contextOf } from "./context.js";
import { mountHoverCard } from "./hover_card.js";
import { Panel } from "./panel.js";

const SHOWN_KEYS = ["labels", "target", "groups", "dismissed"]; // of the state, besides pins

/** Mount this part of the page: put its elements into `places`, register its commands, listen to the state. */
export function mountPanel(app, places) {
  const panel = new Panel(app, places.panel);
  addCommands(app, places, panel);
  mountHoverCard(app, places, () => contextOf(app, panel.file));
  app.store.subscribe(({ file, keys }) => {
    if (file === null && keys.includes("file")) panel.reset();
    if (file !== panel.file) return;
    if (keys.includes("pins")) panel.follow();
    else if (keys.some((key) => SHOWN_KEYS.includes(key))) panel.render();
  });
  app.on("pruned", ({ file }) => file === panel.file && panel.update());
  app.on("group", (key) => panel.show(key));
  app.on("focus", (node) => node !== null && panel.show(app.files[panel.file].graph.nameOf(node)));
}
