// What is lit: nodes that are hovered, focused, pinned or selected, and their inputs and outputs.

import { placedLabels } from "./labels.js";
import { outline, paintEdges, paintLabels, paintShapes } from "./paint.js";
import { strengthOf } from "./scene.js";
import { FONT } from "./sizes.js";
import { extent, projection } from "./view.js";

const MOST_EDGES = 500;
const HOVERED = { width: 1.75, dash: [] }; // ring
const FLOOR = 0.22; // opacity of the weakest edge

/** How much larger rings are than their shapes, in pixels. */
export const WIDEN = 3;

/**
 * Return what is lit: {shapes, edges, centres, pinned, selected, dim}, or null if nothing is.
 *
 * Args: scene; adjacency of `adjacencyOf`; {hovered: number of an item or -1, pinned, selected: numbers of
 * items, edges: numbers of pinned edges}.
 */
export function litOf(scene, adjacency, { hovered, pinned, selected, edges: pinnedEdges }) {
  if (hovered < 0 && !pinned.length && !selected.length && !pinnedEdges.length) return null;
  const centres = hovered >= 0 ? [hovered] : pinned;
  const edges = [...new Set([...centres.flatMap((item) => adjacency.get(item) ?? []), ...(hovered >= 0 ? [] : pinnedEdges)])];
  edges.sort((a, b) => scene.edges.key[b] - scene.edges.key[a]).splice(MOST_EDGES);
  edges.reverse(); // strong ones last
  const ends = new Set([...centres, ...pinned, ...selected, ...edges.flatMap((edge) => [scene.edges.from[edge], scene.edges.to[edge]])]);
  const dim = hovered >= 0 ? "hovered" : pinned.length || pinnedEdges.length ? "pinned" : "";
  return { shapes: scene.shapes.filter((shape) => ends.has(shape.at)), edges, centres: new Set(centres), pinned: new Set(pinned), selected: new Set(selected), dim };
}

/** Return {width, dash} of the ring around an item that is pinned or selected; null for others. */
export function markOf({ pinned, selected }, item) {
  if (pinned.has(item)) return { width: 2.5, dash: [] };
  return selected.has(item) ? { width: 1.75, dash: [3, 2.5] } : null;
}

/** Return the numbers of the edges at each item, by item. */
export function adjacencyOf({ edges }) {
  const adjacency = new Map();
  const add = (item, edge) => (adjacency.has(item) ? adjacency.get(item).push(edge) : adjacency.set(item, [edge]));
  edges.key.forEach((_, edge) => {
    add(edges.from[edge], edge);
    add(edges.to[edge], edge);
  });
  return adjacency;
}

/** Paint what is lit over the dimmed circuit, whose labels cannot be seen: those of lit nodes keep their `sides`, by item. */
export function paintLit(context, scene, lit, picture, style, sides) {
  const strongest = lit.edges.reduce((most, edge) => Math.max(most, strengthOf(scene.edges.key[edge])), 0) || 1;
  const bright = { ...scene, edges: { ...scene.edges, floor: FLOOR, gain: 1 / strongest } };
  paintEdges(context, bright, picture, style, { to: lit.edges.length, numbers: lit.edges });
  if (lit.dim) paintShapes(context, lit.shapes, picture, style);
  paintRings(context, lit, picture, style);
  if (!lit.dim) return;
  context.font = `${FONT}px ${style.font}`;
  const first = (shape) => ({ ...shape, rank: shape.rank + 10 * lit.centres.has(shape.at) });
  const measure = (text) => context.measureText(text).width;
  paintLabels(context, placedLabels({ ...scene, shapes: lit.shapes.map(first) }, picture, measure, sides), style);
}

function paintRings(context, lit, picture, style) {
  const place = projection(picture.view, picture);
  for (const shape of lit.shapes) {
    const mark = markOf(lit, shape.at) ?? (lit.centres.has(shape.at) ? HOVERED : null);
    if (!mark) continue;
    const [w, h] = extent(shape, place);
    context.strokeStyle = style.accent;
    context.lineWidth = mark.width;
    context.setLineDash(mark.dash);
    outline(context, shape, place.px(shape.x), place.py(shape.y), w + WIDEN, h + WIDEN);
    context.stroke();
  }
  context.setLineDash([]);
}
