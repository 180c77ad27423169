// The circuit of the page's current file.

import { copyText } from "../ui/clipboard.js";
import { h } from "../ui/dom.js";
import { createCircuit } from "./circuit.js";
import { addCommands } from "./commands.js";
import { createLegend } from "./legend.js";
import { fileSource } from "./source.js";

/** Keys of the state whose changes need a new drawing, and those that only light up other nodes. */
const DRAWN = ["groups", "labels", "moved", "collapsed", "opened", "sizeBy", "target"];
const LIT = ["pins", "selected"];

/** Mount the circuit of the current file; `app.circuit` is it, as `createCircuit` describes it, and null before it is there. */
export function mountCircuit(app, places) {
  const stage = h("div", { class: "circuit-file" });
  const legend = createLegend(app);
  const frame = h("div", { class: "circuit-frame" }, stage, legend.element);
  places.circuit.append(frame);
  app.circuit = null;
  const number = () => app.store.page.file;
  const nameOf = (node) => (node === null ? null : app.files[number()].graph.nameOf(node));
  const draw = () => {
    app.circuit.refresh();
    legend.refresh(app.circuit.model);
  };
  const show = () => {
    app.circuit?.destroy();
    app.circuit = createCircuit(app, stage, fileSource(app, number(), (name) => copied(app, name)));
    if (app.results[number()]) draw();
  };

  app.on("pruned", ({ file }) => file === number() && (app.circuit ? draw() : show()));
  app.on("hover", (node) => app.circuit?.hover(nameOf(node)));
  app.on("focus", (node) => app.circuit?.show(nameOf(node)));
  app.on("theme", () => app.circuit?.restyle());
  app.on("bands", () => app.circuit?.refresh());
  app.store.subscribe(({ file, keys }) => {
    if (file === null && keys.includes("layout")) frame.hidden = app.store.page.layout !== "one"; // diff/ shows two files
    if (file === null && keys.includes("file")) show();
    if (file !== number() || !app.circuit) return;
    if (keys.includes("view")) app.circuit.follow();
    if (keys.some((key) => DRAWN.includes(key))) draw();
    else if (keys.some((key) => LIT.includes(key))) app.circuit.relight();
    app.commands.refresh();
  });
  addCommands(app, frame);
}

async function copied(app, name) {
  app.announce((await copyText(name)) ? `pinned and copied ${name}` : `pinned ${name}`);
}
