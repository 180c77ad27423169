// A part of the panel that can be folded, and stays so for the next node.

import { h } from "../ui/dom.js";

const folded = new Set();

/** Return a part with a heading; `note` is what stands beside the heading. */
export function section(title, note, ...content) {
  const summary = h("summary", {}, h("h3", {}, title), h("span", { class: "section-note" }, note));
  const element = h("details", { class: "panel-section", open: !folded.has(title), dataset: { section: title } }, summary, ...content);
  element.addEventListener("toggle", () => (element.open ? folded.delete(title) : folded.add(title)));
  return element;
}

/** Return a sentence that explains a part. */
export function explanation(...content) {
  return h("p", { class: "explanation" }, ...content);
}

/** Return a list of facts as pairs of a name and a value; pairs that are null are passed over. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value))));
}

/** Return the large numbers of what is shown: each a name, a value and a note below it; `areWide` leaves room for errors of values. */
export function figures(list, areWide = false) {
  return h("dl", { class: areWide ? "figures wide" : "figures" }, list.map(([name, value, note]) =>
    h("div", { dataset: { figure: name } }, h("dt", {}, name), h("dd", {}, value), h("dd", { class: "faint" }, note))));
}

/** Return the sign of what pruning hides. */
export function hiddenBadge() {
  return h("span", { class: "badge" }, "hidden by pruning");
}
