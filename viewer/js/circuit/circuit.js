// A circuit that can be looked at: draws the model of a source, and tells the source what a user does with it.

import { Actions } from "./actions.js";
import { Camera } from "./camera.js";
import { Drawing } from "./drawing.js";
import { createSurface } from "./surface.js";
import { svgText } from "./svg.js";
import { fittingView, LAYERS, pannedView, sameView, zoomedView } from "./view.js";

const MARGIN = 20; // around a whole circuit
const RESIZED_MS = 160; // after the last change of the size: a layout takes time, which a user who drags an edge of the page has not
const LEAST_SPAN = 0.3; // part of the circuit's width that is seen of a span

/**
 * Put a circuit into an element and return it. Several can live on one page.
 *
 * What it shows and where changes go is its source, {model, get, set, hover, pin, focus, open}:
 *
 *   model()                the nodes, edges and columns, as in model.js
 *   get(key)               pins, selected, moved, collapsed, opened, view, bands of the state (see state/state.js); undefined for a
 *                          key that the source lacks. Names are those of the model's nodes
 *   set(values, title)     a user changed them; the source calls `refresh` if what it shows is another
 *   hover(item or null), focus(item), pin(item), open(item)
 *                          a user points at, moves to, clicks or double-clicks an item: a node of the model, or what stands for
 *                          several: {name, node, kind, …, members}; pin also gets {kind: "edge", name: "source -> target"}
 *
 * The circuit is:
 *
 *   refresh()              draw what the source has now, with a new layout
 *   relight()              pins or the selection changed
 *   follow()               the view of the source changed
 *   restyle()              read the colours again
 *   view, setView(view), onView(listener)
 *                          {x, y, scale}; a listener gets every view that the user chooses, to link circuits
 *   fit(), zoom(factor), pan(dx, dy), show(name), showSpan(first, last)
 *                          show moves to a node, showSpan to the columns of some positions
 *   hover(name or null)    light up a node, as if pointed at, without telling the source
 *   focus(name)            give a node the keyboard
 *   openFocused()          open or close what has the keyboard: group, cell, or position of a node
 *   rectOf(name)           DOMRect of a node in the window, or null
 *   svg({isWhole})         what is seen, or all, as text of an SVG file
 *   seen()                 promise: there is a picture
 *   settled()              promise: the picture is that of the last change
 *   model, scene, lit (names of the items that are lit), destroy()
 */
export function createCircuit(app, element, source) {
  element.classList.add("circuit-view");
  return new Circuit(element, source);
}

class Circuit {
  #element;
  #observer;
  #resizing = 0;

  constructor(element, source) {
    this.#element = element;
    this.source = source;
    this.surface = createSurface(element);
    this.drawing = new Drawing(source, this.surface);
    this.camera = new Camera({
      frame: () => ({ bounds: this.scene.bounds, size: this.surface.size }),
      moved: (view) => this.#moved(view),
      settled: (view) => source.set({ view }),
    });
    this.actions = new Actions(this);
    this.#observer = new ResizeObserver(() => this.#resized());
    this.#observer.observe(element);
  }

  get model() {
    return this.drawing.model;
  }

  get scene() {
    return this.drawing.scene;
  }

  get lit() {
    return this.drawing.lit ? this.drawing.lit.shapes.map(({ at }) => this.drawing.nameOf(at)) : [];
  }

  get view() {
    return this.camera.view;
  }

  /** What is seen: {view, width, height}. */
  get picture() {
    return { view: this.view, ...this.surface.size };
  }

  refresh() {
    const { drawing, actions } = this;
    this.#measure();
    const names = [actions.hovered, actions.focused].map((item) => drawing.nameOf(item));
    drawing.refresh();
    [actions.hovered, actions.focused] = names.map((name) => drawing.itemOf(name));
    actions.light();
    this.camera.set(this.source.get("view") ?? this.camera.whole);
  }

  relight() {
    if (this.scene) this.actions.light();
  }

  restyle() {
    this.surface.restyle();
  }

  setView(view) {
    this.camera.set(view);
  }

  follow() {
    const wanted = this.source.get("view") ?? this.camera.whole;
    if (!sameView(wanted, this.view)) this.camera.set(wanted);
  }

  onView(listener) {
    this.camera.listeners.add(listener);
    return () => this.camera.listeners.delete(listener);
  }

  fit() {
    this.camera.fit();
  }

  zoom(factor) {
    this.camera.go(zoomedView(this.view, factor));
  }

  pan(dx, dy) {
    this.camera.go(pannedView(this.view, dx, dy));
  }

  show(name) {
    const item = this.drawing.itemOf(name);
    if (item >= 0) this.camera.reveal(this.drawing.boxOf(item, this.view));
  }

  showSpan(first, last) {
    const span = spanBounds(this.scene, first, last);
    if (span) this.camera.go(fittingView(span, this.surface.size));
  }

  hover(name) {
    if (this.scene) this.actions.hover(this.drawing.itemOf(name));
  }

  focus(name) {
    const item = this.drawing.itemOf(name);
    if (item < 0) return;
    this.actions.focusOn(item);
    this.actions.focus.element.focus({ preventScroll: true });
  }

  openFocused() {
    this.actions.open(this.actions.focused);
  }

  rectOf(name) {
    const item = this.drawing.itemOf(name);
    if (item < 0) return null;
    const [left, top, right, bottom] = this.drawing.boxOf(item, this.view);
    const box = this.surface.element.getBoundingClientRect();
    return new DOMRect(box.left + left, box.top + top, right - left, bottom - top);
  }

  svg({ isWhole = false } = {}) {
    return svgText(this.scene, isWhole ? wholePicture(this.scene.bounds) : this.picture, this.surface.style, this.drawing.measure, this.drawing.lit);
  }

  seen() {
    return this.surface.seen();
  }

  settled() {
    return this.surface.painted();
  }

  destroy() {
    clearTimeout(this.#resizing);
    this.#observer.disconnect();
    this.actions.stop();
    this.camera.stop();
    this.surface.destroy();
  }

  #moved(view) {
    this.surface.setView(view);
    this.actions.follow();
  }

  #resized() {
    if (!this.#measure() || !this.scene) return;
    clearTimeout(this.#resizing);
    this.#resizing = setTimeout(() => this.refresh(), RESIZED_MS);
  }

  /** Take the size of the element; return whether it is another. */
  #measure() {
    const { width, height } = this.#element.getBoundingClientRect();
    const { size } = this.surface;
    if (!width || !height || (width === size.width && height === size.height)) return false;
    this.surface.resize(width, height);
    return true;
  }
}

/** Return the bounds of the columns of some positions, wide enough to see what is beside them; null where there are none. */
function spanBounds({ columns, bounds }, first, last) {
  const inside = columns.filter((column) => column.last >= first && column.first <= last);
  if (!inside.length) return null;
  const [left, right] = [inside[0].left, inside.at(-1).right];
  const margin = Math.max(0, (bounds.right - bounds.left) * LEAST_SPAN - (right - left)) / 2;
  return { ...bounds, left: left - margin, right: right + margin };
}

function wholePicture({ left, top, right, bottom }) {
  const [width, height] = [right - left + LAYERS + 2 * MARGIN, bottom - top + 2 * MARGIN];
  return { width, height, view: { x: (left - LAYERS + right) / 2, y: (top + bottom) / 2, scale: 1 } };
}
