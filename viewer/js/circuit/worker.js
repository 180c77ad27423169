// The worker that paints circuits beside the page; the latest request wins.

import { paintBack } from "./axes.js";
import { placedLabels } from "./labels.js";
import { paintEdges, paintLabels, paintShapes } from "./paint.js";
import { FONT } from "./sizes.js";

const SLICE_MS = 25; // between looks at the mail
let scene = null;
let style = null;
let wanted = null;
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
    const bitmap = await painted(picture);
    if (bitmap) self.postMessage({ picture, bitmap }, [bitmap]);
  }
  isBusy = false;
}

/** Return the picture as a bitmap, or null if the scene changed meanwhile. */
async function painted(picture) {
  const [shown, looks] = [scene, style];
  const canvas = new OffscreenCanvas(picture.width * picture.ratio, picture.height * picture.ratio);
  const context = canvas.getContext("2d");
  context.scale(picture.ratio, picture.ratio);
  paintBack(context, shown, picture, looks);
  let pause = performance.now() + SLICE_MS;
  const count = shown.edges.key.length;
  for (let from = 0; from < count; from += 500) {
    paintEdges(context, shown, picture, looks, { from, to: Math.min(count, from + 500) });
    if (performance.now() < pause) continue;
    await new Promise((resolve) => setTimeout(resolve));
    if (scene !== shown || style !== looks) return null;
    pause = performance.now() + SLICE_MS;
  }
  paintShapes(context, shown.shapes, picture, looks);
  context.font = `${FONT}px ${looks.font}`;
  paintLabels(context, placedLabels(shown, picture, (text) => widthOf(context, text)), looks);
  return canvas.transferToImageBitmap();
}

function widthOf(context, text) {
  if (!widths.has(text)) widths.set(text, context.measureText(text).width);
  return widths.get(text);
}
