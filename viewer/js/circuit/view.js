// Views: what part of a circuit is seen. {x, y} is the place in the middle, `scale` the pixels of a unit.

/** Width of the names of layers at the left edge, in pixels. */
export const LAYERS = 44;

const SCALES = [0.02, 12];
/** Pixels around a circuit that fits. */
export const MARGIN = 10;
const LARGEST_FIT = 1.6;

/** Return the view in which bounds fill a size {width, height}, right of the names of layers. */
export function fittingView({ left, top, right, bottom }, { width, height }) {
  const room = width - LAYERS - MARGIN;
  const scale = clampedScale(Math.min(room / (right - left), (height - 2 * MARGIN) / (bottom - top), LARGEST_FIT));
  const before = LAYERS + (room - (right - left) * scale) / 2;
  return { x: left + (width / 2 - before) / scale, y: (top + bottom) / 2, scale };
}

/** Return a view that is `factor` times as large, around a point in pixels from the middle. */
export function zoomedView(view, factor, [dx, dy] = [0, 0]) {
  const scale = clampedScale(view.scale * factor);
  const shift = 1 / view.scale - 1 / scale;
  return { x: view.x + dx * shift, y: view.y + dy * shift, scale };
}

/** Return a view moved by pixels. */
export function pannedView(view, dx, dy) {
  return { ...view, x: view.x - dx / view.scale, y: view.y - dy / view.scale };
}

/** Return a view whose middle is inside of some bounds, so that a circuit cannot get lost. */
export function keptView(view, bounds) {
  const kept = (value, low, high) => Math.max(low, Math.min(high, value));
  return { ...view, x: kept(view.x, bounds.left, bounds.right), y: kept(view.y, bounds.top, bounds.bottom) };
}

/** Return the view between two, `share` of the way; scales change evenly to the eye. */
export function betweenViews(from, to, share) {
  const mix = (a, b) => a + (b - a) * share;
  return { x: mix(from.x, to.x), y: mix(from.y, to.y), scale: from.scale * (to.scale / from.scale) ** share };
}

/** Return whether two views are the same. */
export function sameView(a, b) {
  return a === b || (a && b && a.x === b.x && a.y === b.y && a.scale === b.scale);
}

/** Return the CSS transform that moves a picture of a view, of a size with its origin in the middle, to another view. */
export function transformBetween(pictured, view) {
  const scale = view.scale / pictured.scale;
  const [dx, dy] = [(pictured.x - view.x) * view.scale, (pictured.y - view.y) * view.scale];
  return `translate(${dx}px, ${dy}px) scale(${scale})`;
}

/** Return a function from places to pixels in a size {width, height}, and the growth of shapes. */
export function projection(view, { width, height }) {
  const { x, y, scale } = view;
  return { scale, grow: growth(scale), px: (place) => (place - x) * scale + width / 2, py: (place) => (place - y) * scale + height / 2 };
}

/** Return half the width and height in pixels of a shape with a place of `projection`; `least` is how little it grows. */
export function extent({ form, w, h, room, least = 0 }, { scale, grow }) {
  if (form === "frame") return [w * scale, h * scale];
  const own = Math.max(grow, least);
  return [Math.min(w * own, room * scale), h * own];
}

/** Return how much larger shapes are at a scale: closer, places spread faster than shapes grow, so that labels get room. */
export function growth(scale) {
  return Math.min(scale ** (scale < 1 ? 0.65 : 0.45), 2.2);
}

function clampedScale(scale) {
  return Math.max(SCALES[0], Math.min(SCALES[1], scale));
}
