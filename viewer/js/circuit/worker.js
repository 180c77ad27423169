// The worker that paints circuits beside the page; the latest request wins.

import { paintEdges } from "./paint.js";
import { begun, draftStart, finished } from "./picture.js";

const SLICE_MS = 25; // between looks at the mail
const SLICE_EDGES = 500; // between looks at the clock
let scene = null;
let style = null;
let wanted = null;
let drafted = null; // the scene of the last picture, or of a draft that the page has painted
let isBusy = false;
const widths = new Map();

self.onmessage = ({ data }) => {
  if (data.scene) scene = data.scene;
  if (data.isDrafted) drafted = scene;
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
    const first = draftStart(scene);
    if (scene !== drafted && first > 0) await paint(picture, first); // a first picture soon
    drafted = scene;
    await paint(picture, 0);
  }
  isBusy = false;
}

/** Paint a picture with the edges from a number on, and send it and its labels; a whole picture not if the scene changes meanwhile. */
async function paint(picture, first) {
  const [shown, looks] = [scene, style];
  const contexts = begun(shown, picture, looks);
  if (!(await paintAllEdges(contexts[0], shown, picture, looks, first))) return;
  const { bitmaps, sides } = finished(contexts, shown, picture, looks, widths);
  self.postMessage({ picture, bitmaps, sides, isDraft: first > 0 }, bitmaps);
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
