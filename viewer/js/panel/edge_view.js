// An edge: its weight, its share of what the target reads, and the attention heads that carry it.

import { count, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { largestOf, signedBar } from "./bar.js";
import { inputsOf } from "./edges.js";
import { headLoadings } from "./heads.js";
import { nodeButton } from "./names.js";
import { decimalsOf, exact, signedValue } from "./number.js";
import { explanation, section } from "./section.js";

const FIRST = 12;

/** Return {element, update} of an edge {edge, source, target}. */
export function edgeView(context, subject, actions) {
  const { source, target } = subject;
  const badge = h("span");
  const element = h("div", {},
    h("header", { class: "subject" }, h("p", { class: "site" }, h("span", {}, "Edge"), badge, actions),
      h("h2", { class: "edge-title" }, nodeButton(context, source), h("span", { class: "faint", "aria-label": "to" }, "→"), nodeButton(context, target))),
    figures(context, subject),
    explanation("The direct effect of the source on what the target reads: no other feature lies between them."),
    headSection(context, subject));
  const update = () => replaceChildren(badge, context.shown && !context.shown[subject.edge] && h("span", { class: "badge" }, "hidden by pruning"));
  update();
  return { element, update };
}

function figures({ graph }, { edge, target }) {
  const inputs = inputsOf(graph, target, null);
  const rank = inputs.findIndex((each) => each.edge === edge);
  const { weight, share } = inputs[rank];
  return h("dl", { class: "figures" },
    h("div", { dataset: { figure: "Weight" } }, h("dt", {}, "Weight"), h("dd", {}, signedValue(weight)), h("dd", { class: "faint" }, weight < 0 ? "lowers the target" : "raises the target")),
    h("div", { dataset: { figure: "Share" } }, h("dt", {}, "Share of the target's input"), h("dd", {}, exact(share, percent(share))),
      h("dd", { class: "faint" }, `rank ${count(rank + 1)} of ${count(inputs.length)}`)));
}

function headSection({ graph }, subject) {
  const loadings = headLoadings(graph, subject);
  if (!loadings) return section("Attention heads", "", explanation("The file has no head loadings: trace with --heads."));
  const { direct, heads } = loadings;
  const values = [direct, ...heads.map((each) => each.value)];
  const [largest, decimals] = [largestOf(values), decimalsOf([...values, graph.weights[subject.edge]])];
  const line = (name, value, properties = {}) => h("tr", { dataset: { head: name }, ...properties },
    h("th", { scope: "row" }, name), h("td", {}, signedBar(value, largest)), h("td", {}, signedValue(value, decimals)));
  const shown = heads.slice(0, FIRST);
  const rest = heads.slice(FIRST);
  const others = rest.reduce((sum, each) => sum + each.value, 0);
  return section("Attention heads", heads.length ? `${count(heads.length)} can carry it` : "none can carry it",
    h("table", { class: "sum-table" }, h("tbody", {}, direct !== 0 && line("no attention", direct), shown.map(({ layer, head, value }) => line(`L${layer}H${head}`, value)),
      rest.length > 0 && line(`${count(rest.length)} others`, others)),
    h("tfoot", {}, h("tr", { class: "total" }, h("th", { scope: "row" }, "edge"), h("td"), h("td", {}, signedValue(graph.weights[subject.edge], decimals))))),
    explanation("By the last head that a path passes on its way to the target; they add up to the edge."));
}
