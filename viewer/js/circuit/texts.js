// Texts of a circuit: short enough for their places.

import { FONT } from "./sizes.js";

const LEAST_FONT = 8; // pixels
const MOST_GROWTH = 1.5;
const DETAIL = 0.88; // size of the second line
const HALF_PITCH = 0.62; // from the middle of a shape to that of a line, in sizes of the font

/**
 * Return the lines of text inside of a shape: [{text, dy, size, colour, isBold}], `dy` from its middle in pixels. A shape that is too low
 * for both of its lines has the first one.
 *
 * Args: shape; h, half its height in pixels; grow, how large it is.
 */
export function linesIn(shape, h, grow) {
  const isBold = shape.kind === "logit" || shape.kind === "group";
  if (shape.form === "frame") return [{ text: shape.text, dy: -h + FONT, size: FONT, colour: "ink", isBold }];
  const size = Math.max(LEAST_FONT, FONT * Math.min(grow, MOST_GROWTH));
  if (!shape.text || 2 * h < size) return [];
  const hasDetail = shape.detail && 2 * h >= (2 * HALF_PITCH + DETAIL) * size;
  const first = { text: shape.text, dy: hasDetail ? -HALF_PITCH * size : 0, size, colour: "ink", isBold };
  return hasDetail ? [first, { text: shape.detail, dy: HALF_PITCH * size, size: DETAIL * size, colour: "ink-soft", isBold: false }] : [first];
}

/** Return a text cut to a width in pixels, with an ellipsis; `measure` returns the width of a text. */
export function fitted(text, width, measure) {
  if (measure(text) <= width) return text;
  let [fits, count] = [0, text.length];
  while (fits < count) {
    const middle = (fits + count + 1) >> 1;
    if (measure(`${text.slice(0, middle)}…`) <= width) fits = middle;
    else count = middle - 1;
  }
  return fits ? `${text.slice(0, fits).trimEnd()}…` : "";
}
