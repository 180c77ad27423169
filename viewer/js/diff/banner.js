// The comparison above the circuit: how alike two graphs are, where their nodes are, and how they are laid out.

import { h, replaceChildren } from "../ui/dom.js";
import { count } from "../ui/format.js";
import { SIDES, STATUSES } from "./comparison.js";
import { statusSign } from "./look.js";

const LAYOUTS = [["one", "One graph"], ["side", "Side by side"], ["overlay", "Overlaid"]];

/** Return {element, refresh}: the banner of a comparison. */
export function createBanner(app, comparison) {
  const filters = h("div", { class: "status-filters", role: "group", "aria-label": "Nodes that are shown" });
  const layouts = h("div", { class: "segmented", role: "group", "aria-label": "Layout" });
  const element = h("section", { class: "comparison", "aria-label": "Comparison" }, alike(comparison), filters, layouts);
  const refresh = () => {
    const mask = comparison.kept();
    replaceChildren(filters, ...STATUSES.map((_, status) => filter(app, comparison, status, mask)));
    replaceChildren(layouts, ...LAYOUTS.map(([layout, title]) => h("button", { type: "button", "aria-pressed": String(app.store.page.layout === layout), onclick: () => app.store.updatePage({ layout }) }, title)));
  };
  refresh();
  return { element, refresh };
}

/** Return how alike the graphs are, as a share of influence. */
function alike(comparison) {
  const [nodes] = comparison.facts.similarity;
  const share = `${Math.round(100 * nodes.jaccard)}%`;
  const fill = h("span", { class: "alike-fill" });
  fill.style.width = share;
  const names = SIDES.map((side, at) => h("span", { class: `pane-name side-${side.toLowerCase()}` }, h("strong", {}, side), h("bdi", {}, comparison.title(at))));
  return h("div", { class: "alike", title: "Weighted Jaccard index of influence: what both graphs share, over what either has" },
    h("strong", { class: "alike-share" }, share),
    h("span", { class: "alike-words" }, h("span", {}, "of the influence is the same"), h("span", { class: "alike-scale", "aria-hidden": "true" }, fill)),
    h("span", { class: "alike-names" }, ...names));
}

function filter(app, comparison, status, mask) {
  const { name, title } = STATUSES[status];
  const { statuses } = app.store.page;
  const isShown = statuses.includes(name);
  const number = mask ? mask.reduce((sum, isKept, unit) => sum + Number(isKept && comparison.isInner(unit) && comparison.units.status[unit] === status), 0) : 0;
  const toggle = () => app.store.updatePage({ statuses: isShown ? statuses.filter((each) => each !== name) : [...statuses, name] });
  return h("button", { type: "button", class: `status-filter ${name}`, "aria-pressed": String(isShown), title: `${isShown ? "Hide" : "Show"} nodes ${title}`, onclick: toggle },
    statusSign(status), h("span", {}, title), h("span", { class: "number" }, count(number)));
}
