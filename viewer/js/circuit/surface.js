// The canvases of a circuit. While the view moves, finished pictures move by CSS; a worker paints the next ones.

import { startWorker } from "../data/workers.js";
import { h } from "../ui/dom.js";
import { paintLayers, paintStrip, STRIP, stripTop } from "./axes.js";
import { createCanvas } from "./canvas.js";
import { paintLit } from "./lit.js";
import { draftOf } from "./picture.js";
import { readStyle } from "./style.js";
import { LAYERS, sameView } from "./view.js";

const OVERSCAN = 0.2; // of the size, on each side, so that there is something to see while panning
const SETTLED_MS = 110; // without a change of the view, before a sharper picture is worth its time
const COARSE = 0.4; // doublings of the scale after which a picture is painted again while the view moves

/**
 * Return the surface in an element: {element, size, style, setScene, setView, setLit, restyle, resize, seen, painted, destroy}.
 *
 * `setLit` takes what `litOf` returns, or null; `seen` returns a promise of the frame after the first picture, `painted` returns a promise of the picture of what was set last.
 */
export function createSurface(parent) {
  const canvases = ["front", "labels", "over", "layers", "strip"].map(createCanvas);
  const [front, labels, over, layers, strip] = canvases;
  const element = h("div", { class: "circuit-stage" }, ...canvases.map((canvas) => canvas.element));
  parent.append(element);
  const worker = startWorker("worker-paint");
  const waiting = [];
  const state = { style: readStyle(element), scene: null, view: null, lit: null, sides: new Map(), size: { width: 0, height: 0 }, movedAt: 0 };
  let news = { style: state.style }; // for the worker
  let [asked, isAsking, isLitStale, timer, frame] = [null, false, true, 0, 0];

  let resolveSeen = null;
  const seen = new Promise((resolve) => (resolveSeen = resolve));

  worker.onmessage = ({ data: { isDraft, ...painted } }) => {
    isAsking = isDraft;
    show(painted, isDraft);
    schedule();
  };

  function show({ picture, bitmaps, sides }, isDraft) {
    [isLitStale, state.sides] = [true, sides];
    [front, labels].forEach((canvas, at) => canvas.show(bitmaps[at], picture));
    element.dataset.picture = isDraft ? "draft" : "whole"; // for benchmarks
    requestAnimationFrame(() => setTimeout(resolveSeen));
  }

  const isCurrent = () => sameView(asked, state.view) && !news;
  const schedule = () => (frame ||= requestAnimationFrame(paint));

  function picture(scale = 1) {
    const { view, size } = state;
    return { view, width: Math.round(size.width * scale), height: Math.round(size.height * scale), ratio: ratioOf(size) };
  }

  function paint() {
    frame = 0;
    if (!state.scene || !state.view || !state.size.width) return;
    if (!front.view) paintDraft();
    paintEdges();
    paintOver();
    for (const canvas of [front, labels]) canvas.move(state.view);
    ask();
    if (isCurrent() && !isAsking) waiting.splice(0).forEach((resolve) => resolve());
  }

  /** Paint the first picture here: it takes less time than a worker to start. */
  function paintDraft() {
    const wide = picture(1 + 2 * OVERSCAN);
    show({ picture: wide, ...draftOf(state.scene, wide, state.style) }, true);
    news.isDrafted = true;
  }

  /** Paint what stays at the edges. */
  function paintEdges() {
    const { scene, style } = state;
    const plain = picture();
    layers.paint({ ...plain, width: LAYERS }, (context) => paintLayers(context, scene, plain, style));
    const top = stripTop(scene, plain);
    strip.element.hidden = top === null;
    if (top === null) return;
    strip.paint({ ...plain, height: STRIP }, (context) => paintStrip(context, scene, plain, style));
    strip.element.style.transform = `translate(0, ${top}px)`;
  }

  /** Paint what is lit again if it changed, or is too small or coarse. */
  function paintOver() {
    over.element.hidden = !state.lit;
    if (!state.lit) return;
    const isStale = isLitStale || isExposed(over.view) || isCoarse(over.view, isMoving() ? COARSE : 0);
    if (isStale) {
      const wide = picture(1 + 2 * OVERSCAN);
      over.paint(wide, (context) => paintLit(context, state.scene, state.lit, wide, state.style, state.sides));
      isLitStale = false;
    }
    over.move(state.view);
  }

  const isMoving = () => performance.now() - state.movedAt < SETTLED_MS;
  const isCoarse = (pictured, limit) => Math.abs(Math.log2(pictured.scale / state.view.scale)) > limit;

  /** Return whether a picture of a view, painted with overscan, soon leaves a part of the surface empty. */
  function isExposed(pictured) {
    const { view, size } = state;
    const reach = 0.7 * OVERSCAN;
    return Math.abs(pictured.x - view.x) * view.scale > reach * size.width || Math.abs(pictured.y - view.y) * view.scale > reach * size.height;
  }

  /** Ask the worker for a picture, unless it is at work on the scene, or what there is will do as long as the view moves. */
  function ask() {
    clearTimeout(timer);
    if (isCurrent() || (isAsking && !news)) return;
    if (!news && isMoving() && !isExposed(front.view) && !isCoarse(front.view, COARSE)) {
      timer = setTimeout(schedule, SETTLED_MS);
      return;
    }
    [isAsking, asked] = [true, state.view];
    worker.postMessage({ ...news, picture: picture(1 + 2 * OVERSCAN) });
    news = null;
  }

  function change(values, told = {}) {
    Object.assign(state, values);
    if ("view" in values) state.movedAt = performance.now();
    else isLitStale = true;
    if (told) news = { ...news, ...told };
    schedule();
  }

  return {
    element,
    get size() {
      return state.size;
    },
    get style() {
      return state.style;
    },
    setScene: (scene) => change({ scene }, { scene }),
    setView: (view) => change({ view }, null),
    setLit(lit) {
      element.dataset.dim = lit?.dim ?? "";
      change({ lit }, null);
    },
    restyle() {
      const style = readStyle(element);
      change({ style }, { style });
    },
    resize: (width, height) => change({ size: { width, height } }),
    seen: () => seen,
    painted: () => (isCurrent() && !isAsking && !frame ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))),
    destroy() {
      worker.terminate();
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      element.remove();
    },
  };
}

/** Return device pixels per CSS pixel, limited so that a picture stays below 16 million pixels. */
function ratioOf({ width, height }) {
  return Math.min(globalThis.devicePixelRatio || 1, Math.sqrt(16e6 / (width * height * (1 + 2 * OVERSCAN) ** 2)));
}
