// The canvases of a circuit. While the view moves, finished pictures move by CSS; the worker paints the next ones.

import { startWorker } from "../data/workers.js";
import { h } from "../ui/dom.js";
import { paintBack, paintFront } from "./axes.js";
import { paintLit } from "./lit.js";
import { readStyle } from "./style.js";
import { sameView, transformBetween } from "./view.js";

const OVERSCAN = 0.25; // of the size, on each side, so that there is something to see while panning
const BETWEEN_MS = 90; // pictures while the view moves

/**
 * Return the surface in an element: {element, size, style, setScene, setView, setLit, restyle, resize, paintsDone, destroy}.
 *
 * `setLit` takes what `litOf` returns, or null.
 */
export function createSurface(parent) {
  const canvas = (name) => h("canvas", { class: name, "aria-hidden": "true" });
  const [back, front, over, edge] = [canvas("fixed"), canvas("front"), canvas("over"), canvas("fixed")];
  const element = h("div", { class: "circuit-stage" }, back, front, over, edge);
  parent.append(element);
  const worker = startWorker("worker-paint");
  const contexts = { back: back.getContext("2d"), over: over.getContext("2d"), edge: edge.getContext("2d"), front: front.getContext("bitmaprenderer") };
  let style = readStyle(element);
  let [scene, view, lit, size] = [null, null, null, { width: 0, height: 0 }];
  let [shown, overView, asked, isAsking, askedAt, timer, frame] = [null, null, null, false, 0, 0, 0];
  let [news, isLitStale] = [{ style }, true];
  const finished = [];

  worker.onmessage = ({ data: { picture, bitmap } }) => {
    isAsking = false;
    shown = picture.view;
    sizeCanvas(front, picture);
    contexts.front.transferFromImageBitmap(bitmap);
    schedule();
    if (isCurrent()) finished.splice(0).forEach((resolve) => resolve());
  };

  const isCurrent = () => sameView(asked, view) && !news;
  const picture = (scale) => ({ view, width: Math.round(size.width * scale), height: Math.round(size.height * scale), ratio: ratioOf(size) });
  const schedule = () => (frame ||= requestAnimationFrame(paint));

  function paint() {
    frame = 0;
    if (!scene || !view || !size.width) return;
    const plain = picture(1);
    cleared(contexts.back, back, plain);
    paintBack(contexts.back, scene, plain, style);
    cleared(contexts.edge, edge, plain);
    paintFront(contexts.edge, scene, plain, style);
    paintOver();
    if (shown) front.style.transform = centred(transformBetween(shown, view));
    ask();
  }

  /** Paint what is lit again if it changed or is too small or coarse; move it otherwise. */
  function paintOver() {
    const isNear = overView && Math.abs(Math.log2(overView.scale / view.scale)) < 0.2 && !isExposed(overView);
    if (isLitStale || (lit && !isNear)) {
      const wide = picture(1 + 2 * OVERSCAN);
      cleared(contexts.over, over, wide);
      if (lit) paintLit(contexts.over, scene, lit, wide, style);
      overView = view;
      isLitStale = false;
    }
    over.style.transform = centred(transformBetween(overView, view));
  }

  function isExposed(pictured) {
    return [[pictured.x - view.x, size.width], [pictured.y - view.y, size.height]].some(([shift, side]) => Math.abs(shift * view.scale) > side * OVERSCAN);
  }

  /** Ask the worker for a picture of the view, unless it is at work or was asked a moment ago. */
  function ask() {
    if (isAsking || isCurrent()) return;
    const wait = news ? 0 : askedAt + BETWEEN_MS - performance.now();
    clearTimeout(timer);
    if (wait > 0) {
      timer = setTimeout(schedule, wait);
      return;
    }
    [isAsking, asked, askedAt] = [true, view, performance.now()];
    worker.postMessage({ ...news, picture: picture(1 + 2 * OVERSCAN) });
    news = null;
  }

  const surface = {
    element,
    get size() {
      return size;
    },
    get style() {
      return style;
    },
    setScene(next) {
      scene = next;
      news = { ...news, scene };
      isLitStale = true;
      schedule();
    },
    setView(next) {
      view = next;
      schedule();
    },
    setLit(next) {
      lit = next;
      element.dataset.dim = lit?.dim ?? "";
      isLitStale = true;
      schedule();
    },
    restyle() {
      style = readStyle(element);
      news = { ...news, style };
      isLitStale = true;
      schedule();
    },
    resize(width, height) {
      size = { width, height };
      news = { ...news };
      isLitStale = true;
      schedule();
    },
    /** Return a promise of the picture of what was set last. */
    paintsDone: () => (isCurrent() && !isAsking ? Promise.resolve() : new Promise((resolve) => finished.push(resolve))),
    destroy() {
      worker.terminate();
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      element.remove();
    },
  };
  return surface;
}

function centred(transform) {
  return `translate(-50%, -50%) ${transform}`;
}

/** Return device pixels per pixel, at most so many that a picture stays below 16 million. */
function ratioOf({ width, height }) {
  return Math.min(globalThis.devicePixelRatio || 1, Math.sqrt(16e6 / (width * height * (1 + 2 * OVERSCAN) ** 2)));
}

function sizeCanvas(canvas, { width, height, ratio }) {
  const sizes = [Math.floor(width * ratio), Math.floor(height * ratio)];
  if (canvas.width !== sizes[0] || canvas.height !== sizes[1]) [canvas.width, canvas.height] = sizes;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
}

function cleared(context, canvas, picture) {
  sizeCanvas(canvas, picture);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.scale(picture.ratio, picture.ratio);
}
