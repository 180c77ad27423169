// Sizes of what a circuit shows, in pixels at scale 1.

export const FONT = 11.5; // labels
const LEAST_RADIUS = 3;
const MOST_RADIUS = 12;
/** How little targets shrink: their texts stay readable. */
export const LEAST_TARGET = 0.85;
const GAP = 12; // between nodes of a line
const LONGEST_LABEL = 96;

/**
 * Return the shape of an item without its place: {w, h} are half its width and height; `lead` is from the left end of the space
 * that it takes to its centre, `width` all of that space and `height` that of its line; `least` is how little it grows, see `extent`.
 *
 * Args: item; hasLabel: a circle has space for its label; measure: width of a text in pixels.
 */
export function shapeOf(item, hasLabel, measure) {
  switch (item.kind) {
    case "token": case "span": return box(Math.min(150, measure(item.label)) / 2 + 9, 12);
    case "logit": return { ...box(Math.max(1.1 * measure(item.label), measure(item.detail)) / 2 + 11, 20), least: LEAST_TARGET };
    case "group": return box(Math.min(180, Math.max(measure(item.label), measure(item.detail))) / 2 + 12, 19);
    case "more": return box(measure(item.label) / 2 + 7, 9);
    default: return circle(item, hasLabel ? Math.min(LONGEST_LABEL, measure(item.label)) + 6 : 0);
  }
}

/** Return the radius of a node of a size from 0 to 1, whose area is proportional to it. */
export function radiusOf(size) {
  return Math.max(LEAST_RADIUS, MOST_RADIUS * Math.sqrt(size));
}

function box(w, h) {
  return { w, h, lead: w + GAP / 2, width: 2 * w + GAP, height: 2 * h + GAP };
}

function circle(item, label) {
  const radius = radiusOf(item.size);
  return { w: radius, h: radius, lead: radius + GAP / 2, width: 2 * radius + GAP + label, height: Math.max(2 * radius, FONT * 1.3) + GAP / 2 };
}
