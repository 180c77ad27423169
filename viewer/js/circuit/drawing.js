// What a circuit draws: the model of its source, laid out for the surface, and what of it is lit.

import { endsOf } from "../state/subject.js";
import { layoutOf } from "./layout.js";
import { adjacencyOf, litOf } from "./lit.js";
import { sceneOf } from "./scene.js";
import { FONT } from "./sizes.js";
import { extent, projection } from "./view.js";

/** A drawing of a source on a surface. Nodes of the model, and what stands for several, are items: numbers in `layout.items`. */
export class Drawing {
  model = null;
  layout = null;
  scene = null;
  lit = null;
  #adjacency = new Map();
  #numbers = new Map(); // items by name
  #ruler = new OffscreenCanvas(1, 1).getContext("2d");
  #source;
  #surface;

  constructor(source, surface) {
    [this.#source, this.#surface] = [source, surface];
    this.measure = this.measure.bind(this);
  }

  /** Lay out what the source has now. */
  refresh() {
    const listed = (key) => this.#source.get(key) ?? [];
    this.model = this.#source.model();
    this.layout = layoutOf(this.model, {
      ...this.#surface.size, collapsed: listed("collapsed"), moved: this.#source.get("moved") ?? {}, opened: new Set(listed("opened")),
      kept: new Set([...listed("pins"), ...listed("selected")]), measure: this.measure,
    });
    this.#numbers = numbersByName(this.layout.items);
    this.scene = sceneOf(this.model, this.layout, listed("bands"));
    this.#adjacency = adjacencyOf(this.scene);
    this.#surface.setScene(this.scene);
  }

  /** Light up an item, or what is pinned if it is -1, and what is selected. */
  light(item) {
    const names = (this.#source.get("pins") ?? []).map(endsOf);
    this.lit = litOf(this.scene, this.#adjacency, {
      hovered: item,
      pinned: this.#itemsOf(names.filter((ends) => ends.length === 1).flat()),
      selected: this.#itemsOf(this.#source.get("selected") ?? []),
      edges: names.filter((ends) => ends.length === 2).flatMap((ends) => this.#edgesBetween(...ends.map((name) => this.itemOf(name)))),
    });
    this.#surface.setLit(this.lit);
  }

  /** Return the item that stands for a node, or -1. */
  itemOf(name) {
    return this.layout?.host[this.#numbers.get(name)] ?? -1;
  }

  nameOf(item) {
    return this.layout?.items[item]?.name;
  }

  /** Return the names of the nodes that an item stands for. */
  membersOf(item) {
    const { name, members } = this.layout.items[item];
    return members ?? [name];
  }

  /** Return the box of an item in a view, [left, top, right, bottom] in pixels. */
  boxOf(item, view) {
    const { items, x, y, w, h, room, least } = this.layout;
    const place = projection(view, this.#surface.size);
    const form = items[item].isOpen ? "frame" : "";
    const [halfWidth, halfHeight] = extent({ form, w: w[item], h: h[item], room: room[item], least: least[item] }, place);
    const [left, top] = [place.px(x[item]) - halfWidth, place.py(y[item]) - halfHeight];
    return [left, top, left + 2 * halfWidth, top + 2 * halfHeight];
  }

  /** Return the offset of an item from where the layout puts it. */
  offsetOf(item) {
    const { x, y, startX, startY } = this.layout;
    return [x[item] - startX[item], y[item] - startY[item]];
  }

  /** Place an item at an offset from where the layout puts it. */
  place(item, [dx, dy]) {
    const { x, y, startX, startY } = this.layout;
    [x[item], y[item]] = [startX[item] + dx, startY[item] + dy];
    const shape = this.scene.shapes.find((each) => each.at === item);
    if (shape) [shape.x, shape.y] = [x[item], y[item]];
  }

  /** Return the width of a text in a label. */
  measure(text) {
    this.#ruler.font = `${FONT}px ${this.#surface.style.font}`;
    return this.#ruler.measureText(text).width;
  }

  #itemsOf(names) {
    return names.map((name) => this.itemOf(name)).filter((item) => item >= 0);
  }

  #edgesBetween(from, to) {
    const { edges } = this.scene;
    return (this.#adjacency.get(from) ?? []).filter((edge) => edges.from[edge] === from && edges.to[edge] === to);
  }
}

/** Return the numbers of items by name; a member of a closed group has that of the group. */
function numbersByName(items) {
  const members = items.flatMap((item, at) => (item.kind === "group" ? item.members.map((name) => [name, at]) : []));
  return new Map([...members, ...items.map((item, at) => [item.name, at])]);
}
