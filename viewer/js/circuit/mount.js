// The circuit of the page's current file.

import { copyText } from "../ui/clipboard.js";
import { h } from "../ui/dom.js";
import { createCircuit } from "./circuit.js";
import { addCommands } from "./commands.js";
import { fileSource } from "./source.js";

/** Keys of the state whose changes need a new drawing, and those that only light up other nodes. */
const DRAWN = ["groups", "labels", "moved", "collapsed", "opened", "sizeBy", "target"];
const LIT = ["pins", "selected"];

/** Mount the circuit of the current file; `app.circuit` is it, as `createCircuit` describes it. */
export function mountCircuit(app, places) {
  const element = h("div", { class: "circuit-file" });
  places.circuit.append(element);
  let circuit = null;
  const show = (number) => {
    circuit?.destroy();
    element.replaceChildren();
    circuit = app.circuit = createCircuit(app, element, fileSource(app, number, (name) => copied(app, name)));
  };
  const current = () => app.store.page.file;
  app.on("pruned", ({ file }) => {
    if (file !== current()) return;
    if (circuit) circuit.refresh();
    else show(file);
  });
  app.on("hover", (node) => circuit?.hover(node === null ? null : app.files[current()].graph.nameOf(node)));
  app.on("focus", (node) => circuit?.show(app.files[current()].graph.nameOf(node)));
  app.on("theme", () => circuit?.restyle());
  app.on("bands", () => circuit?.refresh());
  app.store.subscribe(({ file, keys }) => {
    if (file === null && keys.includes("file")) show(current());
    if (file !== current() || !circuit) return;
    if (keys.includes("view")) circuit.follow();
    if (keys.some((key) => DRAWN.includes(key))) circuit.refresh();
    else if (keys.some((key) => LIT.includes(key))) circuit.relight();
  });
  addCommands(app, element);
}

async function copied(app, name) {
  app.announce((await copyText(name)) ? `pinned and copied ${name}` : `pinned ${name}`);
}
