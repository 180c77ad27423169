// Labels beside nodes, where they do not cover each other or a node: the largest nodes choose first.

import { FONT } from "./sizes.js";
import { extent, projection } from "./view.js";

const CELL = 40; // pixels
const GAP = 4;
const END = 8; // that a label may reach beyond the circuit
const MOST_TEXT = 0.055; // share of a picture that labels may cover
const PAD = 3; // between labels

/**
 * Return the labels that have room in a picture {view, width, height}: [{at, side, text, x, y, size, align, isNamed}].
 *
 * `at` is the item, `side` the number of the place beside it. `sides` has those of labels that keep theirs, by item.
 * Args: scene, or one with a part of its shapes; picture; measure, which returns the width of a text of 1 pixel height times `FONT`.
 */
export function placedLabels({ shapes, columns, rows, bands, bounds }, picture, measure, sides = new Map()) {
  const place = projection(picture.view, picture);
  const size = FONT * Math.max(0.88, Math.min(1.25, place.grow));
  const seen = shapes.map((shape) => onScreen(shape, place)).filter((each) => isSeen(each, picture));
  const taken = new Occupied();
  for (const each of seen) if (each.shape.form !== "frame") taken.add(boxOf(each));
  const [labels, start, end] = [[], place.px(columns[0].left), place.px(bounds.right) + END];
  const top = bands.length && rows.length ? place.py(rows.at(-1).top) : -Infinity; // names of bands are above
  const isInside = (box) => box[0] > start && box[2] < end && box[1] > top;
  let room = MOST_TEXT * picture.width * picture.height;
  const isKept = ({ shape }) => sides.has(shape.at);
  for (const each of seen.filter(({ shape }) => shape.label).sort((a, b) => isKept(b) - isKept(a) || b.shape.rank - a.shape.rank)) {
    const width = (measure(each.shape.label) * size) / FONT;
    const free = candidates(each, width, size, sides.get(each.shape.at)).find(({ box }) => isInside(box) && !taken.overlaps(box));
    if (!free) continue;
    taken.add(free.box);
    room -= width * size;
    if (room < 0) break;
    const { at, label: text, isNamed } = each.shape;
    labels.push({ at, side: free.side, text, x: free.x, y: free.y, size, align: free.align, isNamed });
  }
  return labels;
}

function onScreen(shape, place) {
  const [w, h] = extent(shape, place);
  return { shape, x: place.px(shape.x), y: place.py(shape.y), w, h };
}

function isSeen({ x, y, w, h }, { width, height }) {
  return x + w > 0 && y + h > 0 && x - w < width && y - h < height;
}

function boxOf({ x, y, w, h }) {
  return [x - w - 1, y - h - 1, x + w + 1, y + h + 1];
}

/** Return the places for a label: right, left, below and above its node; the one of number `first` before the others. */
function candidates({ x, y, w, h }, width, size, first = 0) {
  const half = size * 0.55;
  const [right, left] = [x + w + GAP, x - w - GAP];
  const [below, above] = [y + h + half + 2, y - h - half - 2];
  const places = [
    { x: right, y, align: "left", box: [right, y - half, right + width + PAD, y + half] },
    { x: left, y, align: "right", box: [left - width - PAD, y - half, left, y + half] },
    { x, y: below, align: "center", box: [x - width / 2 - PAD, below - half, x + width / 2 + PAD, below + half] },
    { x, y: above, align: "center", box: [x - width / 2 - PAD, above - half, x + width / 2 + PAD, above + half] },
  ].map((place, side) => ({ ...place, side }));
  return [places[first], ...places.filter(({ side }) => side !== first)];
}

/** Boxes [left, top, right, bottom] in a grid. */
class Occupied {
  #cells = new Map();

  add(box) {
    for (const key of keysOf(box)) {
      if (!this.#cells.has(key)) this.#cells.set(key, []);
      this.#cells.get(key).push(box);
    }
  }

  overlaps(box) {
    for (const key of keysOf(box)) {
      if (this.#cells.get(key)?.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) return true;
    }
    return false;
  }
}

function* keysOf([left, top, right, bottom]) {
  for (let x = Math.floor(left / CELL); x <= Math.floor(right / CELL); x++) {
    for (let y = Math.floor(top / CELL); y <= Math.floor(bottom / CELL); y++) yield x * 100_003 + y;
  }
}
