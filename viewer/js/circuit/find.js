// Which item is at a place, and which is next to one in a direction.

import { extent, projection } from "./view.js";

const REACH = 7; // pixels around a shape that belong to it

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
