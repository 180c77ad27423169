// The foot of the circuit: what its signs mean, how much is shown, and which target it is about.

import { h, replaceChildren } from "../ui/dom.js";
import { visible } from "../data/visible.js";
import { count, counted } from "../ui/format.js";
import { signOf } from "../ui/node.js";
import { MOST_EDGES } from "./model.js";

const KINDS = [["feature", "feature"], ["error", "error"], ["token", "token"], ["logit", "target"]];
const SIGNS = [["positive", "raises"], ["negative", "lowers"]];

/** Return {element, refresh}: the foot of the circuit of the current file. */
export function createLegend(app) {
  const drawn = h("span", { class: "legend-count" });
  const targets = h("select", { "aria-label": "Target", onchange: () => update({ target: targets.value === "" ? null : Number(targets.value) }) });
  const sizes = h("select", { "aria-label": "Size of nodes", onchange: () => update({ sizeBy: sizes.value }) }, option("influence", "Size: influence"), option("effect", "Size: effect"));
  const signs = h("ul", { class: "legend-signs", "aria-label": "Legend" }, ...KINDS.map(([kind, name]) => h("li", {}, signOf(kind), name)), ...SIGNS.map(([sign, name]) => h("li", {}, h("span", { class: `stroke ${sign}` }), name)));
  const element = h("div", { class: "circuit-foot" }, targets, sizes, signs, drawn);
  const number = () => app.store.page.file;
  const update = (values) => app.store.update(number(), values);
  return {
    element,
    /** Show the state of a file and the model of its circuit. */
    refresh(model) {
      const [{ graph }, state] = [app.files[number()], app.store.file(number())];
      replaceChildren(targets, option("", "All targets"), graph.info.targets.map(({ label }, at) => option(String(at), `Target: ${visible(label)}`)));
      targets.value = state.target === null ? "" : String(state.target);
      targets.hidden = graph.info.targets.length < 2;
      sizes.hidden = graph.effects("expected_effect", 0) === null;
      sizes.value = state.sizeBy;
      drawn.textContent = countText(model);
    },
  };
}

function option(value, text) {
  return h("option", { value }, text);
}

function countText({ total }) {
  const all = `${counted(total.nodes, "node")}, ${counted(total.edges, "edge")}`;
  return total.edges > MOST_EDGES ? `${all}, the strongest ${count(MOST_EDGES)} drawn` : all;
}
