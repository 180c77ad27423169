// The worker that paints circuits beside the page; the latest request wins.

import { paintBack } from "./axes.js";
import { placedLabels } from "./labels.js";
import { paintEdges, paintLabels, paintShapes } from "./paint.js";
import { FONT } from "./sizes.js";

const SLICE_MS = 25; // between looks at the mail
const SLICE_EDGES = 500; // between looks at the clock
const DRAFT_EDGES = 2_000; // of a first picture of more: the strongest
let scene = null;
let style = null;
let wanted = null;
let drafted = null; // the scene that was painted last
let isBusy = false;
const widths = new Map();

self.onmessage = ({ data }) => {
  if (data.scene) scene = data.scene;
  if (data.style) {
    style = data.style;
    widths.clear();
  }
  if (data.picture) wanted = data.picture;
  if (!isBusy) work();
};

async function work() {
  isBusy = true;
  while (wanted && scene && style) {
    const picture = wanted;
    wanted = null;
    const count = scene.edges.key.length;
    if (scene !== drafted && count > DRAFT_EDGES) await paint(picture, count - DRAFT_EDGES); // a first picture soon
    drafted = scene;
    await paint(picture, 0);
  }
  isBusy = false;
}

/** Paint a picture with the edges from a number on, and send it and its labels; a whole picture not if the scene changes meanwhile. */
async function paint(picture, first) {
  const [shown, looks] = [scene, style];
  const [context, above] = [contextOf(picture), contextOf(picture)];
  paintBack(context, shown, picture, looks);
  if (!(await paintAllEdges(context, shown, picture, looks, first))) return;
  paintShapes(context, shown.shapes, picture, looks);
  above.font = `${FONT}px ${looks.font}`;
  const labels = placedLabels(shown, picture, (text) => widthOf(above, text));
  paintLabels(above, labels, looks);
  const bitmaps = [context, above].map(({ canvas }) => canvas.transferToImageBitmap());
  self.postMessage({ picture, bitmaps, sides: new Map(labels.map(({ at, side }) => [at, side])), isDraft: first > 0 }, bitmaps);
}

function contextOf({ width, height, ratio }) {
  const context = new OffscreenCanvas(width * ratio, height * ratio).getContext("2d");
  context.scale(ratio, ratio);
  return context;
}

/** Paint edges in slices; return false if the scene or the style changed meanwhile. A draft is finished: one is seen at every change. */
async function paintAllEdges(context, shown, picture, looks, first) {
  const count = shown.edges.key.length;
  let pause = performance.now() + SLICE_MS;
  for (let from = first; from < count; from += SLICE_EDGES) {
    paintEdges(context, shown, picture, looks, { from, to: Math.min(count, from + SLICE_EDGES) });
    if (first > 0 || performance.now() < pause) continue;
    await new Promise((resolve) => setTimeout(resolve));
    if (scene !== shown || style !== looks) return false;
    pause = performance.now() + SLICE_MS;
  }
  return true;
}

function widthOf(context, text) {
  if (!widths.has(text)) widths.set(text, context.measureText(text).width);
  return widths.get(text);
}
