// Circuits of two graphs: one for both, or one for each, whose views, hovered nodes and pins are linked.

import { createCircuit } from "../circuit/circuit.js";
import { h, replaceChildren } from "../ui/dom.js";
import { createUnitCard } from "./card.js";
import { SIDES } from "./comparison.js";
import { besideEachOther } from "./svg.js";
import { sharedView, unionSource } from "./source.js";

const LAYOUTS = { side: [0, 1], overlay: [null] }; // sides of the panes

/**
 * Return {element, show, refresh, circuits, point, isChanged, reset}.
 *
 * `show` takes the layout of the page, and shows nothing for "one"; `reset` puts back what was moved, collapsed or opened.
 */
export function createPanes(app, comparison) {
  const [stage, foot] = [h("div", { class: "panes" }), h("div", { class: "circuit-foot" })];
  const element = h("div", { class: "circuit-frame", hidden: true }, stage, foot);
  const card = createUnitCard(comparison, stage);
  const shared = sharedView();
  let panes = [];

  function show(layout) {
    panes.forEach(({ circuit }) => circuit.destroy());
    const sides = LAYOUTS[layout] ?? [];
    element.hidden = !sides.length;
    stage.replaceChildren();
    replaceChildren(foot, legend(layout));
    panes = sides.map(pane);
    for (const each of panes) each.circuit.onView((view) => follow(each, view));
    if (panes.length) app.circuit = facade();
    refresh();
  }

  function pane(side) {
    const inside = h("div", { class: "pane-circuit" });
    const activate = () => side !== null && app.store.page.file !== side && app.store.updatePage({ file: side });
    const frame = h("section", { class: "pane", "aria-label": side === null ? "A and B" : `Graph ${SIDES[side]}`, dataset: { side: side ?? "" }, onpointerdown: activate },
      side !== null && paneTitle(comparison, side), inside);
    stage.append(frame); // circuits read their size and colours
    const source = unionSource(app, comparison, side, shared, { changed: (keys) => keys.join() !== "view" && refresh(), hovered });
    return { side, circuit: createCircuit(app, inside, source) };
  }

  function follow(moved, view) {
    for (const each of panes) if (each !== moved && each.circuit.scene) each.circuit.setView(view);
  }

  function hovered(unit) {
    card.show(unit);
    light(unit === null ? null : comparison.key(unit));
  }

  function light(key) {
    for (const { circuit } of panes) if (circuit.scene) circuit.hover(key);
  }

  function refresh() {
    if (!comparison.kept()) return;
    panes.forEach(({ circuit }) => circuit.refresh());
    app.commands.refresh();
  }

  /** Return the circuit for the rest of the page, which knows nodes by their names in the current file. */
  function facade() {
    const current = () => (panes.find(({ side }) => side === app.store.page.file) ?? panes[0]).circuit;
    const side = () => app.store.page.file;
    const key = (name) => comparison.keyOfName(name, side());
    return {
      refresh,
      relight: () => panes.forEach(({ circuit }) => circuit.relight()),
      restyle: () => panes.forEach(({ circuit }) => circuit.restyle()),
      follow: () => {},
      get view() {
        return current().view;
      },
      get model() {
        return current().model;
      },
      get scene() {
        return current().scene;
      },
      setView: (view) => panes.forEach(({ circuit }) => circuit.setView(view)),
      onView: (listener) => current().onView(listener),
      fit: () => current().fit(),
      zoom: (factor) => current().zoom(factor),
      pan: (dx, dy) => current().pan(dx, dy),
      showSpan: (first, last) => current().showSpan(...[first, last].map((position) => comparison.columnOf[side()][position])),
      show: (name) => panes.forEach(({ circuit }) => circuit.scene && circuit.show(key(name))),
      hover: (name) => light(name === null ? null : key(name)),
      focus: (name) => current().focus(key(name)),
      openFocused: () => current().openFocused(),
      rectOf: (name) => current().rectOf(key(name)),
      svg: (options) => besideEachOther(panes.map(({ circuit }) => circuit.svg(options))),
      settled: () => Promise.all(panes.map(({ circuit }) => circuit.settled())),
    };
  }

  return {
    element,
    show,
    refresh,
    get circuits() {
      return panes.map(({ circuit }) => circuit);
    },
    /** Light up a unit, or none. */
    point(unit) {
      if (panes.length) light(unit === null ? null : comparison.key(unit));
      else app.circuit?.hover(unit === null ? null : comparison.nameIn(unit, app.store.page.file));
    },
    isChanged: () => Object.keys(shared.moved).length + shared.collapsed.length + shared.opened.length > 0,
    reset() {
      Object.assign(shared, sharedView());
      refresh();
    },
  };
}

const STROKES = {
  overlay: [["side-both", "edge in both"], ["side-a", "only or more in A"], ["side-b", "only or more in B"], ["side-both negative", "lowers"]],
  side: [["positive", "raises"], ["negative", "lowers"]],
};

function legend(layout) {
  return h("ul", { class: "legend-signs", "aria-label": "Legend of edges" }, ...(STROKES[layout] ?? []).map(([stroke, title]) => h("li", {}, h("span", { class: `stroke ${stroke}` }), title)));
}

function paneTitle(comparison, side) {
  return h("p", { class: `pane-title pane-name side-${SIDES[side].toLowerCase()}` }, h("strong", {}, SIDES[side]), h("bdi", {}, comparison.title(side)));
}
