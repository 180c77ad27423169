// The circuit of the page's current file.

import { copyText } from "../ui/clipboard.js";
import { queryName } from "../state/subject.js";
import { h } from "../ui/dom.js";
import { createCircuit } from "./circuit.js";
import { addCommands } from "./commands.js";
import { createLegend } from "./legend.js";
import { fileSource, shownOf } from "./source.js";

/** Keys of the state whose changes need a new drawing, and those that only light up other nodes. */
const DRAWN = ["groups", "labels", "moved", "collapsed", "opened", "sizeBy", "target"];
const LIT = ["pins", "selected"];

/**
 * Mount the circuit of the current file; `app.circuit` is it, as `createCircuit` describes it, and null before it is there. Where
 * the layout of the page shows two graphs, `app.circuit` is that of diff/.
 */
export function mountCircuit(app, places) {
  const stage = h("div", { class: "circuit-file" });
  const legend = createLegend(app);
  const frame = h("div", { class: "circuit-frame" }, stage, legend.element);
  places.circuit.append(frame);
  let circuit = null;
  let isFirst = Boolean(shownOf(app, app.store.page.file)); // what is drawn is the first picture of the page
  app.circuit = null;
  const isAlone = () => app.store.page.layout === "one";
  const number = () => app.store.page.file;
  const nameOf = (node) => (node === null ? null : app.files[number()].graph.nameOf(node));
  const draw = () => {
    circuit.refresh();
    legend.refresh(circuit.model);
    app.commands.refresh();
  };
  const show = () => {
    circuit?.destroy();
    circuit = null;
    frame.hidden = !isAlone();
    if (frame.hidden) return;
    circuit = app.circuit = createCircuit(app, stage, fileSource(app, number(), (name) => copied(app, queryName(app.files[number()].graph, name))));
    if (shownOf(app, number())) draw();
  };
  const update = ({ file, result }) => {
    if (file !== number()) return;
    if (!circuit) show();
    else if (isFirst && isPictured(app.files[file], result)) legend.refresh(circuit.model);
    else draw();
    isFirst = false;
    app.files[file].first = null;
  };

  app.on("pruned", update);
  app.on("hover", (node) => app.circuit?.hover(nameOf(node)));
  app.on("focus", (node) => app.circuit?.show(nameOf(node)));
  app.on("theme", () => circuit?.restyle());
  app.on("bands", () => circuit?.refresh());
  app.store.subscribe(({ file, keys }) => {
    if (file === null && (keys.includes("layout") || (keys.includes("file") && isAlone()))) show();
    if (file !== number() || !circuit) return;
    if (keys.includes("view")) circuit.follow();
    if (keys.some((key) => DRAWN.includes(key))) {
      isFirst = false;
      draw();
    } else if (keys.some((key) => LIT.includes(key))) circuit.relight();
    app.commands.refresh();
  });
  addCommands(app, places.circuit);
  if (isFirst) show();
}

/** Return whether the first picture of a page shows what a file's pruner found. */
function isPictured({ first }, { nodes, edges }) {
  return first !== null && first.result.edges.length === edges.length && nodes.every((kept, node) => kept === first.result.nodes[node]);
}

async function copied(app, name) {
  app.announce((await copyText(name)) ? `pinned and copied ${name}` : `pinned ${name}`);
}
