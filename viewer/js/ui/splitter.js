// Edges of the panel and the drawer, which can be dragged or moved by arrow keys.

import { h } from "./dom.js";

const STEP_PX = 24;
const GROWS = { ArrowLeft: 1, ArrowUp: 1, ArrowRight: -1, ArrowDown: -1 };

/**
 * Return the edge of `element`, whose size it sets as the CSS variable `variable` of the page.
 *
 * `orientation` is that of the edge: "vertical" sets a width, "horizontal" a height. `least` and `most()` are in pixels.
 */
export function splitter({ element, variable, label, orientation, least, most }) {
  const isVertical = orientation === "vertical";
  const size = () => (isVertical ? element.offsetWidth : element.offsetHeight);
  const edge = h("div", { class: "splitter", role: "separator", tabindex: 0, "aria-label": label, "aria-orientation": orientation, "aria-valuemin": least });
  const set = (pixels) => {
    const value = Math.round(Math.max(least, Math.min(most(), pixels)));
    document.documentElement.style.setProperty(variable, `${value}px`);
  };
  const tell = () => {
    edge.setAttribute("aria-valuenow", size());
    edge.setAttribute("aria-valuemax", Math.max(size(), Math.round(most())));
  };
  new ResizeObserver(tell).observe(element);
  tell();
  edge.addEventListener("keydown", (event) => {
    if (!GROWS[event.key]) return;
    event.preventDefault();
    set(size() + GROWS[event.key] * STEP_PX);
  });
  edge.addEventListener("pointerdown", (event) => drag(event, edge, (from) => (isVertical ? from.clientX : from.clientY), size(), set));
  return edge;
}

function drag(start, edge, at, size, set) {
  start.preventDefault();
  edge.setPointerCapture(start.pointerId);
  edge.classList.add("dragging");
  const move = (event) => set(size + at(start) - at(event));
  edge.addEventListener("pointermove", move);
  edge.addEventListener("lostpointercapture", () => {
    edge.removeEventListener("pointermove", move);
    edge.classList.remove("dragging");
  }, { once: true });
}
