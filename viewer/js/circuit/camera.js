// The view of a circuit as a user moves it: at once by hand, in a short move by key and button.

import { betweenViews, fittingView, keptView, pannedView } from "./view.js";

const MOVE_MS = 220;
const SETTLED_MS = 160; // after the last movement
const [EDGE, MARGIN] = [4, 60]; // pixels from an edge at which a node is out of sight, and to which it moves

/** A camera. `frame()` returns {bounds, size}; `moved(view)` is called at every view, `settled(view or null)` when a user is done. */
export class Camera {
  view = null;
  listeners = new Set(); // get every view that a user chooses
  #animation = 0;
  #timer = 0;
  #frame;
  #moved;
  #settled;

  constructor({ frame, moved, settled }) {
    [this.#frame, this.#moved, this.#settled] = [frame, moved, settled];
  }

  /** Return the view in which everything is seen. */
  get whole() {
    const { bounds, size } = this.#frame();
    return fittingView(bounds, size);
  }

  /** Take a view. */
  set(view) {
    cancelAnimationFrame(this.#animation);
    this.view = keptView(view, this.#frame().bounds);
    this.#moved(this.view);
  }

  /** Take a view that a user chose by hand. */
  choose(view) {
    this.set(view);
    this.listeners.forEach((listener) => listener(this.view));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#settled(this.view), SETTLED_MS);
  }

  /** Move to a view. */
  go(view, whenThere = () => {}) {
    const [from, start] = [this.view, performance.now()];
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = () => {
      const share = isStill ? 1 : Math.min(1, (performance.now() - start) / MOVE_MS);
      this.choose(betweenViews(from, view, 1 - (1 - share) ** 3));
      if (share < 1) this.#animation = requestAnimationFrame(step);
      else whenThere();
    };
    step();
  }

  /** Move until everything is seen, and stay so when the circuit changes. */
  fit() {
    this.go(this.whole, () => {
      clearTimeout(this.#timer);
      this.#settled(null);
    });
  }

  /** Move until a box [left, top, right, bottom] of pixels is well inside of the picture; stay where it is seen. */
  reveal([left, top, right, bottom]) {
    const { width, height } = this.#frame().size;
    const [dx, dy] = [outside(left, right, width), outside(top, bottom, height)];
    if (dx || dy) this.go(pannedView(this.view, dx, dy));
  }

  stop() {
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#animation);
  }
}

/** Return the pixels by which an interval must move to be well inside of a side, 0 if it is inside. */
function outside(low, high, side) {
  const margin = Math.min(MARGIN, side / 6);
  if (low < EDGE) return margin - low;
  return high > side - EDGE ? side - margin - high : 0;
}
