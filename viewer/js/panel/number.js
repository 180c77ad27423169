// Numbers in lists: aligned at the decimal point, and with their exact value in the tooltip.

import { h } from "../ui/dom.js";
import { signed } from "../ui/format.js";

const [FEWEST_DECIMALS, MOST_DECIMALS] = [2, 5];

/** Return how many decimals give the largest of some numbers three significant digits, and no fewer than two; null if that takes too many. */
export function decimalsOf(values) {
  const largest = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
  if (largest === 0) return FEWEST_DECIMALS;
  const decimals = Math.max(FEWEST_DECIMALS, 2 - Math.floor(Math.log10(largest)));
  return decimals > MOST_DECIMALS ? null : decimals;
}

/** Return a number with its sign and some decimals; with null in its shortest form. */
export function signedText(value, decimals = null) {
  if (decimals === null || !Number.isFinite(value)) return signed(value);
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(decimals);
}

/** Return an element that shows a number as `text` and holds its exact value. */
export function exact(value, text) {
  return h("data", { value: String(value), title: String(value), class: "number" }, text);
}

/** Return an element with a signed number. */
export function signedValue(value, decimals = null) {
  return exact(value, signedText(value, decimals));
}
