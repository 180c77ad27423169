// Pictures of a scene: a worker paints them beside the page, the page itself only the first, so that it need not wait for a worker.

import { paintBack } from "./axes.js";
import { placedLabels } from "./labels.js";
import { paintEdges, paintLabels, paintShapes } from "./paint.js";
import { FONT } from "./sizes.js";

const DRAFT_EDGES = 2_000; // of a first picture of more: the strongest

/** Return the number of the first edge of a scene's draft: 0 for one that has all. */
export function draftStart(scene) {
  return Math.max(0, scene.edges.key.length - DRAFT_EDGES);
}

/** Return {bitmaps, sides}, a picture with the strongest edges: see `finished`. */
export function draftOf(scene, picture, style) {
  const contexts = begun(scene, picture, style);
  paintEdges(contexts[0], scene, picture, style, { from: draftStart(scene) });
  return finished(contexts, scene, picture, style);
}

/** Return the two contexts of a new picture with what is behind the edges: one for edges and shapes, one for the labels over them. */
export function begun(scene, picture, style) {
  const contexts = [contextOf(picture), contextOf(picture)];
  paintBack(contexts[0], scene, picture, style);
  return contexts;
}

/**
 * Paint shapes and labels of a scene over its edges; return {bitmaps, sides}: of both contexts, and where labels are beside their items,
 * see `placedLabels`. `widths` has those of texts that were measured before.
 */
export function finished([context, above], scene, picture, style, widths = new Map()) {
  paintShapes(context, scene.shapes, picture, style);
  above.font = `${FONT}px ${style.font}`;
  const labels = placedLabels(scene, picture, (text) => widthOf(above, text, widths));
  paintLabels(above, labels, style);
  const bitmaps = [context, above].map(({ canvas }) => canvas.transferToImageBitmap());
  return { bitmaps, sides: new Map(labels.map(({ at, side }) => [at, side])) };
}

function contextOf({ width, height, ratio }) {
  const context = new OffscreenCanvas(width * ratio, height * ratio).getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

function widthOf(context, text, widths) {
  if (!widths.has(text)) widths.set(text, context.measureText(text).width);
  return widths.get(text);
}
