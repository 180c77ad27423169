// What a user does with a circuit by pointer and keyboard.

import { joinedName } from "../state/subject.js";
import { h } from "../ui/dom.js";
import { edgeAt, itemAt, itemsIn, neighbourOf } from "./find.js";
import { createFocus } from "./focus.js";
import { listenToGestures } from "./gestures.js";
import { pannedView, zoomedView } from "./view.js";

const CLOSER = 2; // by a double click
const OPENED = new Set(["token", "group"]); // kinds that a double click opens or narrows; "+12" and spans open by a click
const FINGER = 16; // pixels around a shape that belong to it, for a finger
const STRONG_EDGES = 300; // that can be clicked before a node lights up others

/** Pointer and keyboard of a circuit: which item is hovered, and which has the focus; -1 is none. */
export class Actions {
  hovered = -1;
  focused = -1;
  #circuit;
  #pointing = 0;
  #offset = null; // of the item that is dragged
  #clicked = null; // what a first click met, and what it changed
  #stop;

  /** Args: {surface, drawing, camera, source} of a circuit. */
  constructor(circuit) {
    this.#circuit = circuit;
    this.lasso = h("div", { class: "circuit-lasso", hidden: true });
    this.focus = createFocus({
      first: () => this.#focusFirst(), move: (key) => this.#focusNext(key), pin: () => this.#act(this.focused),
      select: () => this.#toggleSelected(this.focused), leave: () => this.light(),
    });
    circuit.surface.element.append(this.lasso, this.focus.element);
    this.#stop = listenToGestures(circuit.surface.element, this.#handlers());
  }

  /** Light up what is hovered, or has the focus of the keyboard. */
  light() {
    const isFocused = this.focused >= 0 && this.focus.element.matches(":focus-visible");
    this.#circuit.drawing.light(this.hovered >= 0 || !isFocused ? this.hovered : this.focused);
  }

  /** Hover an item without telling the source. */
  hover(item) {
    if (item === this.hovered) return;
    this.hovered = item;
    this.light();
  }

  /** Give an item the focus. */
  focusOn(item) {
    const { drawing, camera, source } = this.#circuit;
    [this.focused, this.hovered] = [item, -1];
    this.follow();
    const { title, name } = drawing.layout.items[item];
    this.focus.label(title, (source.get("pins") ?? []).includes(name));
    camera.reveal(drawing.boxOf(item, camera.view));
    this.light();
    source.focus(drawing.layout.items[item]);
  }

  /** Keep the focus over its item. */
  follow() {
    const { drawing, camera } = this.#circuit;
    if (this.focused >= 0) this.focus.place(drawing.boxOf(this.focused, camera.view));
  }

  open(item) {
    if (item >= 0) this.#circuit.source.open(this.#circuit.drawing.layout.items[item]);
  }

  stop() {
    cancelAnimationFrame(this.#pointing);
    this.#stop();
  }

  #handlers() {
    const { camera, surface } = this.#circuit;
    const at = (x, y, reach) => itemAt(this.#circuit.drawing.scene, this.#circuit.picture, x, y, reach);
    const about = (x, y) => [x - surface.size.width / 2, y - surface.size.height / 2];
    return {
      hover: (x, y) => {
        cancelAnimationFrame(this.#pointing);
        this.#pointing = requestAnimationFrame(() => this.#point(x === null ? -1 : at(x, y)));
      },
      pan: (dx, dy) => camera.choose(pannedView(camera.view, dx, dy)),
      zoom: (factor, x, y) => camera.choose(zoomedView(camera.view, factor, about(x, y))),
      click: (x, y, event) => this.#click(at(x, y, event.pointerType === "touch" ? FINGER : undefined), x, y, event.shiftKey),
      double: (x, y) => this.#double(() => camera.go(zoomedView(camera.view, CLOSER, about(x, y)))),
      grab: (x, y) => this.#circuit.drawing.nameOf(at(x, y)) ?? null,
      drag: (name, dx, dy) => this.#drag(name, dx / camera.view.scale, dy / camera.view.scale),
      drop: (name) => this.#drop(name),
      frame: (box, isDone) => this.#frame(box, isDone),
    };
  }

  #point(item) {
    const { surface, source, drawing } = this.#circuit;
    surface.element.dataset.over = String(item >= 0);
    if (item === this.hovered) return;
    source.hover(drawing.layout.items[item] ?? null); // before, since it puts out the light of items that are no nodes
    this.hover(item);
  }

  #click(item, x, y, withShift) {
    const { drawing, source } = this.#circuit;
    this.#clicked = { what: drawing.layout.items[item], before: { pins: source.get("pins") ?? [], selected: source.get("selected") ?? [] } };
    if (item < 0) this.#clicked.isEdge = this.#pinEdge(x, y) || withShift || void source.set({ pins: [], selected: [] });
    else if (withShift) this.#toggleSelected(item);
    else this.#act(item);
  }

  /** Do in place of a click what a double click does; what has nothing to open stays clicked. */
  #double(comeCloser) {
    const { what, before, isEdge } = this.#clicked;
    if (isEdge || (what && !OPENED.has(what.kind))) return;
    this.#circuit.source.set(before);
    if (what) this.#circuit.source.open(what);
    else comeCloser();
  }

  #act(item) {
    const { drawing, source } = this.#circuit;
    const what = drawing.layout.items[item];
    if (what?.kind === "more" || what?.kind === "span") source.open(what);
    else if (what) source.pin(what);
  }

  /** Pin an edge that is lit, or a strong one, at some pixels; return whether there was one. */
  #pinEdge(x, y) {
    const { drawing: { scene, lit, layout }, source } = this.#circuit;
    const first = Math.max(0, scene.edges.key.length - STRONG_EDGES);
    const edges = lit?.dim ? lit.edges : Array.from(scene.edges.key.subarray(first), (_, at) => first + at);
    const edge = edgeAt(scene, this.#circuit.picture, x, y, edges);
    if (edge < 0) return false;
    const [from, to] = [scene.edges.from[edge], scene.edges.to[edge]].map((item) => layout.items[item]);
    if (from.node === null || to.node === null) return false;
    source.pin({ kind: "edge", name: joinedName(from.name, to.name), node: null });
    return true;
  }

  #toggleSelected(item) {
    const { drawing, source } = this.#circuit;
    const [selected, names] = [source.get("selected") ?? [], drawing.membersOf(item)];
    const isSelected = names.every((name) => selected.includes(name));
    if (isSelected) source.set({ selected: selected.filter((name) => !names.includes(name)) });
    else this.#select(names);
  }

  #select(names) {
    const { source } = this.#circuit;
    source.set({ selected: [...new Set([...(source.get("selected") ?? []), ...names])] });
  }

  /** Move the item with a name, unless a new layout has none. */
  #drag(name, dx, dy) {
    const { drawing } = this.#circuit;
    const item = drawing.itemOf(name);
    if (drawing.nameOf(item) !== name) return;
    const [x, y] = this.#offset ?? drawing.offsetOf(item);
    this.#offset = [x + dx, y + dy];
    drawing.place(item, this.#offset);
    this.hovered = item;
    this.light();
  }

  #drop(name) {
    const { drawing, source } = this.#circuit;
    const [item, offset] = [drawing.itemOf(name), this.#offset];
    this.#offset = null;
    if (!offset || drawing.nameOf(item) !== name) return;
    source.set({ moved: { ...source.get("moved"), [name]: offset } }, `move ${drawing.layout.items[item].title}`);
  }

  #frame([left, top, right, bottom], isDone) {
    const { drawing, picture } = this.#circuit;
    const { style } = this.lasso;
    this.lasso.hidden = isDone;
    [style.transform, style.width, style.height] = [`translate(${left}px, ${top}px)`, `${right - left}px`, `${bottom - top}px`];
    if (isDone) this.#select(itemsIn(drawing.scene, picture, [left, top, right, bottom]).flatMap((item) => drawing.membersOf(item)));
  }

  #focusFirst() {
    const { items } = this.#circuit.drawing.layout;
    const target = items.findIndex((item) => item.kind === "logit"); // the likeliest
    if (this.focused < 0 && items.length) this.focusOn(Math.max(0, target));
    else this.light();
  }

  #focusNext(key) {
    const next = neighbourOf(this.#circuit.drawing.scene, this.focused, key);
    if (next >= 0) this.focusOn(next);
  }
}
