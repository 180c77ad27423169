// The line of filters above the table.

import { KINDS } from "../data/graph.js";
import { visible } from "../data/visible.js";
import { h, replaceChildren } from "../ui/dom.js";
import { KIND_TITLES, signOf } from "../ui/node.js";
import { NO_FILTERS } from "./rows.js";

const SHARES = [0.05, 0.01, 0.001];

/** Return {element, fill, values, isSet}. `fill(graph)` offers the layers and positions of a graph, `onchange` follows each change. */
export function createFilters(onchange) {
  let values = NO_FILTERS;
  const set = (change) => {
    values = { ...values, ...change };
    element.querySelector(".filters-clear").hidden = JSON.stringify(values) === JSON.stringify(NO_FILTERS);
    onchange();
  };
  const query = h("input", { type: "search", class: "field filter-query", placeholder: "Find in names and labels", "aria-label": "Find in names and labels", oninput: () => set({ query: query.value }) });
  const kinds = h("span", { class: "filter-kinds", role: "group", "aria-label": "Kinds" }, KINDS.map((kind) => kindButton(kind, () => values, set)));
  const choices = h("span", { class: "filter-choices" });
  const clear = h("button", { type: "button", class: "quiet filters-clear", hidden: true, onclick: reset }, "Clear filters");
  const element = h("div", { class: "filters", role: "search", "aria-label": "Filter the table" }, query, kinds, choices, clear);

  function reset() {
    values = NO_FILTERS;
    for (const field of element.querySelectorAll("input, select")) field.type === "checkbox" ? (field.checked = false) : (field.value = "");
    for (const button of kinds.children) button.setAttribute("aria-pressed", "false");
    clear.hidden = true;
    onchange();
  }
  return {
    element,
    get values() {
      return values;
    },
    fill(graph) {
      const layers = [...new Set(graph.layer)].filter((layer) => layer >= 0).sort((a, b) => a - b).map((layer) => [layer, `L${layer}`]);
      const positions = [...new Set(graph.position)].filter((at) => at >= 0).sort((a, b) => a - b).map((at) => [at, `${at} ${visible(graph.info.tokens[at] ?? "")}`]);
      values = NO_FILTERS;
      replaceChildren(choices,
        choice("First layer", "From layer", layers, (value) => set({ firstLayer: numberOf(value) })),
        choice("Last layer", "To layer", layers, (value) => set({ lastLayer: numberOf(value) })),
        choice("Position", "Position", positions, (value) => set({ position: numberOf(value) })),
        choice("Label", "Label", [["with", "With a label"], ["without", "Without a label"]], (value) => set({ label: value || "any" })),
        choice("Least influence", "Influence", SHARES.map((share) => [share, `≥ ${100 * share}%`]), (value) => set({ leastInfluence: numberOf(value) })),
        h("label", { class: "filter-shown" }, h("input", { type: "checkbox", onchange: ({ target }) => set({ onlyShown: target.checked }) }), "Shown"));
    },
  };
}

function kindButton(kind, values, set) {
  const button = h("button", { type: "button", class: "chip", title: `${KIND_TITLES[kind]}s`, "aria-label": `${KIND_TITLES[kind]}s`, "aria-pressed": "false", onclick: () => {
    const { kinds } = values();
    const isOn = kinds.includes(kind);
    button.setAttribute("aria-pressed", String(!isOn));
    set({ kinds: isOn ? kinds.filter((each) => each !== kind) : [...kinds, kind] });
  } }, signOf(kind));
  return button;
}

function choice(label, none, options, onpick) {
  return h("select", { class: "field", "aria-label": label, onchange: ({ target }) => onpick(target.value) },
    h("option", { value: "" }, none), options.map(([value, text]) => h("option", { value }, text)));
}

function numberOf(value) {
  return value === "" ? null : Number(value);
}
