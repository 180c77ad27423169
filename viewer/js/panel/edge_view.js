// An edge: its weight, its share of what the target reads, and the attention heads that carry it.

import { count, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { inputsOf } from "./edges.js";
import { headLoadings } from "./heads.js";
import { nodeButton } from "./names.js";
import { exact, signedValue } from "./number.js";
import { explanation, figures, hiddenBadge, section } from "./section.js";
import { sumTable } from "./sum_table.js";

const FIRST = 12;

/** Return {element, update} of an edge {edge, source, target}. */
export function edgeView(context, subject, actions) {
  const badge = h("span");
  const arrow = h("span", { class: "faint", "aria-label": "to" }, "→");
  const element = h("div", {},
    h("header", { class: "subject" },
      h("p", { class: "site" }, h("span", {}, "Edge"), badge, actions),
      h("h2", { class: "edge-title" }, nodeButton(context, subject.source), arrow, nodeButton(context, subject.target))),
    numbers(context, subject),
    explanation("The direct effect of the source on what the target reads: no other feature lies between them."),
    headSection(context, subject));
  const update = () => replaceChildren(badge, context.shown?.[subject.edge] === 0 && hiddenBadge());
  update();
  return { element, update };
}

function numbers({ graph }, { edge, target }) {
  const inputs = inputsOf(graph, target, null);
  const rank = inputs.findIndex((each) => each.edge === edge);
  const { weight, share } = inputs[rank];
  return figures([
    ["Weight", signedValue(weight), weight < 0 ? "lowers the target" : "raises the target"],
    ["Share of the target's input", exact(share, percent(share)), `rank ${count(rank + 1)} of ${count(inputs.length)}`],
  ]);
}

function headSection({ graph }, subject) {
  const loadings = headLoadings(graph, subject);
  if (!loadings) return section("Attention heads", "", explanation("The file has no head loadings: trace with --heads."));
  const { direct, heads } = loadings;
  const rest = heads.slice(FIRST);
  const parts = [
    direct !== 0 && { name: "no attention", value: direct },
    ...heads.slice(0, FIRST).map(({ layer, head, value }) => ({ name: `L${layer}H${head}`, value })),
    rest.length > 0 && { name: `${count(rest.length)} others`, value: rest.reduce((sum, { value }) => sum + value, 0) },
  ];
  return section("Attention heads", heads.length ? `${count(heads.length)} can carry it` : "none can carry it",
    sumTable(parts.filter(Boolean), { name: "edge", value: graph.weights[subject.edge] }),
    explanation("By the last head that a path passes on its way to the target; they add up to the edge."));
}
