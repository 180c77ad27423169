// What a user can do with the circuit by key and button.

import { withCollapsed } from "./columns.js";

const STEP = 1.4;
const PAN = 120; // pixels
const DIRECTIONS = { Left: [PAN, 0], Right: [-PAN, 0], Up: [0, PAN], Down: [0, -PAN] };

/** Register the commands of the current circuit; `element` goes full screen. */
export function addCommands(app, element) {
  for (const command of [...viewCommands(app, element), ...stateCommands(app)]) {
    const { enabled = () => true } = command;
    app.commands.add({ group: "Circuit", ...command, enabled: () => Boolean(app.circuit?.scene) && enabled() });
  }
}

function viewCommands(app, element) {
  const fullScreen = () => (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen());
  return [
    { id: "circuit.zoomIn", repeats: true, title: "Zoom in", keys: ["+", "="], icon: "plus", toolbar: "view", run: () => app.circuit.zoom(STEP) },
    { id: "circuit.zoomOut", repeats: true, title: "Zoom out", keys: ["-"], icon: "minus", toolbar: "view", run: () => app.circuit.zoom(1 / STEP) },
    { id: "circuit.fit", title: "Show the whole circuit", keys: ["0"], icon: "fit", toolbar: "view", run: () => app.circuit.fit() },
    { id: "circuit.open", title: "Open or close the node with the focus: group, cell, token", keys: ["O"], run: () => app.circuit.openFocused() },
    { id: "circuit.fullScreen", title: "Full screen", keys: ["F"], icon: "fullscreen", toolbar: "view", run: fullScreen },
    ...Object.entries(DIRECTIONS).map(([name, shift]) => ({
      id: `circuit.pan${name}`, repeats: true, title: `Look ${name.toLowerCase()}`, keys: [`Alt+Arrow${name}`], run: () => app.circuit.pan(...shift),
    })),
  ];
}

function stateCommands(app) {
  const state = () => app.store.file(app.store.page.file);
  const seen = () => (app.store.page.layout === "one" ? [app.store.page.file] : [0, 1]);
  const graph = () => app.files[app.store.page.file].graph;
  const update = (values, title) => app.store.update(app.store.page.file, values, title);
  const collapse = () => {
    const [first, last] = spanOf(graph(), state().selected);
    update({ collapsed: withCollapsed(state().collapsed, first, last) }, `collapse positions ${first} to ${last}`);
  };
  return [
    {
      id: "circuit.clear", title: "Clear pins and selection", keys: ["Escape"],
      enabled: () => seen().some((file) => app.store.file(file).pins.length + app.store.file(file).selected.length > 0),
      run: () => seen().forEach((file) => app.store.update(file, { pins: [], selected: [] })),
    },
    {
      id: "circuit.target", title: "Show the next target", keys: ["T"],
      run: () => {
        update({ target: nextTarget(state().target, graph()) });
        app.announce(state().target === null ? "all targets" : `target ${graph().info.targets[state().target].label}`);
      },
    },
    {
      id: "circuit.sizeBy", keys: ["E"],
      title: () => (state().sizeBy === "effect" ? "Size nodes by influence" : "Size nodes by effect"),
      enabled: () => graph().effects("expected_effect", 0) !== null,
      run: () => update({ sizeBy: state().sizeBy === "effect" ? "influence" : "effect" }),
    },
    { id: "circuit.collapse", title: "Collapse the positions of the selection", keys: ["C"], enabled: () => spanOf(graph(), state().selected)[0] >= 0, run: collapse },
    {
      id: "circuit.expand", title: "Expand all positions and cells", keys: ["Shift+C"],
      enabled: () => state().collapsed.length + state().opened.length > 0,
      run: () => update({ collapsed: [], opened: [] }, "expand all positions"),
    },
    {
      id: "circuit.straighten", title: "Put moved nodes back", keys: ["M"],
      enabled: () => Object.keys(state().moved).length > 0,
      run: () => update({ moved: {} }, "put moved nodes back"),
    },
  ];
}

/** Return the first and last position of some nodes, or [-1, -1] without any. */
function spanOf(graph, names) {
  const positions = names.map((name) => graph.position[graph.nodeOf(name)]).filter((position) => position >= 0);
  return positions.length ? [Math.min(...positions), Math.max(...positions)] : [-1, -1];
}

function nextTarget(target, graph) {
  const next = target === null ? 0 : target + 1;
  return next < graph.info.targets.length ? next : null;
}
