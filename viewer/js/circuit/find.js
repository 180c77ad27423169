// Which item is at a place, and which is next to one in a direction.

import { edgeCurve } from "./paint.js";
import { extent, projection } from "./view.js";

const REACH = 7; // pixels around a shape or a curve that belong to it
const STEPS = 100; // places on a curve that are looked at

/** Return the item at pixels x and y of a picture {view, width, height}, or -1; `reach` widens shapes. */
export function itemAt(scene, picture, x, y, reach = REACH) {
  const place = projection(picture.view, picture);
  let [best, nearest] = [-1, Infinity];
  for (const shape of scene.shapes) {
    const [w, h] = extent(shape, place);
    const dx = Math.max(0, Math.abs(place.px(shape.x) - x) - w);
    const dy = Math.max(0, Math.abs(place.py(shape.y) - y) - h);
    const distance = shape.form === "frame" ? (dx || dy ? Infinity : reach) : Math.max(dx, dy);
    if (distance > reach || distance > nearest) continue;
    [best, nearest] = [shape.at, distance];
  }
  return best;
}

/** Return the last of some edges of a scene that passes pixels x and y, or -1. */
export function edgeAt(scene, picture, x, y, edges) {
  const place = projection(picture.view, picture);
  for (const edge of edges.toReversed()) {
    const [x1, y1, bend1, bend2, x2, y2] = edgeCurve(scene, edge, place);
    if (y > Math.max(y1, bend2) + REACH || y < Math.min(y2, bend1) - REACH) continue;
    for (let step = 0; step <= STEPS; step++) {
      const share = step / STEPS;
      const dx = bezier(x1, x1, x2, x2, share) - x;
      if (Math.abs(dx) < REACH && Math.abs(bezier(y1, bend1, bend2, y2, share) - y) < REACH) return edge;
    }
  }
  return -1;
}

function bezier(a, b, c, d, share) {
  const rest = 1 - share;
  return rest ** 3 * a + 3 * rest ** 2 * share * b + 3 * rest * share ** 2 * c + share ** 3 * d;
}

/** Return the items whose centres are inside a rectangle of pixels [left, top, right, bottom]. */
export function itemsIn(scene, picture, [left, top, right, bottom]) {
  const { px, py } = projection(picture.view, picture);
  const isInside = ({ x, y }) => px(x) >= left && px(x) <= right && py(y) >= top && py(y) <= bottom;
  return scene.shapes.filter(isInside).map((shape) => shape.at);
}

const DIRECTIONS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

/** Return the item that is nearest to another in the direction of an arrow key, or -1; places beside the direction count double. */
export function neighbourOf(scene, item, key) {
  const [dx, dy] = DIRECTIONS[key];
  const [x, y] = [scene.x[item], scene.y[item]];
  let [best, least] = [-1, Infinity];
  for (const shape of scene.shapes) {
    if (shape.at === item || shape.form === "frame") continue;
    const along = (shape.x - x) * dx + (shape.y - y) * dy;
    const across = Math.abs((shape.x - x) * dy) + Math.abs((shape.y - y) * dx);
    const cost = along + 2 * across;
    if (along > 1 && along >= across * 0.35 && cost < least) [best, least] = [shape.at, cost];
  }
  return best;
}
