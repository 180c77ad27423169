// What a user can do with the circuit by key and button.

import { withCollapsed } from "./columns.js";

const STEP = 1.4;
const PAN = 120; // pixels

/** Register the commands of the current circuit; `element` goes full screen. */
export function addCommands(app, element) {
  const group = "Circuit";
  const file = () => app.store.page.file;
  const state = () => app.store.file(file());
  const add = (id, title, keys, run, enabled = () => true) => app.commands.add({ id, title, keys, run, group, enabled: () => Boolean(app.circuit) && enabled() });
  add("circuit.fit", "Fit the circuit", ["0"], () => app.circuit.fit());
  add("circuit.zoomIn", "Zoom in", ["+", "="], () => app.circuit.zoom(STEP));
  add("circuit.zoomOut", "Zoom out", ["-"], () => app.circuit.zoom(1 / STEP));
  for (const [name, dx, dy] of [["Left", PAN, 0], ["Right", -PAN, 0], ["Up", 0, PAN], ["Down", 0, -PAN]]) {
    add(`circuit.pan${name}`, `Move ${name.toLowerCase()}`, [`Alt+Arrow${name}`], () => app.circuit.pan(dx, dy));
  }
  add("circuit.fullScreen", "Full screen", ["F"], () => (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen()));
  add("circuit.clear", "Clear pins and selection", ["Escape"], () => app.store.update(file(), { pins: [], selected: [] }), () => state().pins.length + state().selected.length > 0);
  add("circuit.sizeBy", "Size nodes by influence or effect", ["E"], () => app.store.update(file(), { sizeBy: state().sizeBy === "influence" ? "effect" : "influence" }), () => hasEffects(app.files[file()].graph));
  add("circuit.target", "Next target", ["T"], () => app.store.update(file(), { target: nextTarget(state().target, app.files[file()].graph) }));
  add("circuit.collapse", "Collapse the positions of the selection", ["C"], collapse, () => state().selected.length > 0);
  add("circuit.expand", "Expand all positions and cells", ["Shift+C"], () => app.store.update(file(), { collapsed: [], opened: [] }, "expand all positions"), () => state().collapsed.length + state().opened.length > 0);
  add("circuit.straighten", "Put moved nodes back", ["M"], () => app.store.update(file(), { moved: {} }, "put moved nodes back"), () => Object.keys(state().moved).length > 0);

  function collapse() {
    const { graph } = app.files[file()];
    const positions = state().selected.map((name) => graph.position[graph.nodeOf(name)]).filter((position) => position >= 0);
    const [first, last] = [Math.min(...positions), Math.max(...positions)];
    app.store.update(file(), { collapsed: withCollapsed(state().collapsed, first, last) }, `collapse positions ${first} to ${last}`);
  }
}

function nextTarget(target, graph) {
  const next = target === null ? 0 : target + 1;
  return next < graph.info.targets.length ? next : null;
}

function hasEffects(graph) {
  return graph.effects("expected_effect", 0) !== null;
}
