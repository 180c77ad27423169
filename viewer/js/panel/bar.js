// Signed bars around a middle line: negative ones go left and are hatched, so that colour is never alone.

import { h } from "../ui/dom.js";

/** Return a bar for a value between -largest and largest. */
export function signedBar(value, largest) {
  return aroundMiddle(value < 0 ? "negative" : "positive", 50 * partOf(value, largest));
}

/** Return a bar that goes both ways, for a size without sign. */
export function sizeBar(size, largest) {
  return aroundMiddle("either", 100 * partOf(size, largest));
}

/** Return a bar for a share between 0 and 1. */
export function shareBar(share) {
  return h("span", { class: "share-bar", "aria-hidden": true }, filling("", 100 * partOf(share, 1)));
}

/** Return the largest absolute value of some numbers that are finite, or 0. */
export function largestOf(values) {
  return values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
}

function aroundMiddle(form, percent) {
  return h("span", { class: "signed-bar", "aria-hidden": true }, filling(form, percent));
}

function filling(form, percent) {
  const element = h("span", { class: `fill ${form}` });
  element.style.width = `${percent.toFixed(2)}%`;
  return element;
}

function partOf(value, largest) {
  return largest > 0 ? Math.min(1, Math.abs(value) / largest) : 0;
}
