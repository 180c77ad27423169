// Activations of a feature in the text of its store, in half octaves, and where the present one lies.

import { number, percent } from "../ui/format.js";
import { h, s } from "../ui/dom.js";

const LOWEST = 2 ** -12; // features/store/schema.py: bin b begins at LOWEST * 2 ** (b / 2)
const [HEIGHT, STEP, BAR] = [40, 10, 8];

/** Return a picture of the counts, with a mark at the size of `activation` (NaN for none); null if all are zero. */
export function histogram(counts, activation) {
  const first = counts.findIndex((count) => count > 0);
  if (first < 0) return null;
  const last = counts.findLastIndex((count) => count > 0);
  const here = binOf(activation, counts.length);
  const [start, end] = Number.isNaN(here) ? [first, last] : [Math.min(first, here), Math.max(last, here)];
  const most = Math.max(...counts);
  const bars = counts.slice(start, end + 1).map((count, at) => {
    const height = count > 0 ? Math.max(1.5, (HEIGHT * count) / most) : 0;
    return s("rect", { class: start + at === here ? "here" : null, x: at * STEP, y: HEIGHT - height, width: BAR, height });
  });
  const text = `Activations between ${number(lowest(start))} and ${number(lowest(end + 1))}`;
  return h("figure", { class: "histogram" },
    s("svg", { viewBox: `0 0 ${(end - start) * STEP + BAR} ${HEIGHT}`, role: "img", "aria-label": text, preserveAspectRatio: "none" }, bars),
    h("div", { class: "histogram-axis" }, !Number.isNaN(here) && markAt(((here - start) * STEP + BAR / 2) / ((end - start) * STEP + BAR))),
    h("figcaption", {}, h("span", { class: "number" }, number(lowest(start))), h("span", {}, rank(counts, here, activation)),
      h("span", { class: "number" }, number(lowest(end + 1)))));
}

function markAt(share) {
  const mark = h("span", { class: "histogram-here" });
  mark.style.left = `${(100 * share).toFixed(2)}%`;
  return mark;
}

/** Return the share of the activations in lower bins than that of `activation`; NaN for none. */
function shareBelow(counts, activation) {
  const here = binOf(activation, counts.length);
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.slice(0, here).reduce((sum, count) => sum + count, 0) / (Number.isNaN(here) ? NaN : total);
}

function rank(counts, here, activation) {
  return Number.isNaN(here) ? "" : `here ${number(activation)}, above ${percent(shareBelow(counts, activation))} of them`;
}

function lowest(bin) {
  return LOWEST * 2 ** (bin / 2);
}

/** Return the bin of an activation; the first and the last hold everything below and above too. */
function binOf(activation, bins) {
  const size = Math.abs(activation);
  return size > 0 ? Math.min(bins - 1, Math.max(0, Math.floor(2 * Math.log2(size / LOWEST)))) : NaN;
}
