// The small card beside the node under the pointer or the focus of the circuit.

import { FEATURE, LOGIT } from "../data/graph.js";
import { percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { largestOf, signedBar } from "./bar.js";
import { inputsOf, outputsOf } from "./edges.js";
import { expectedChange } from "./effects.js";
import { headline, kindMark, nodeName } from "./names.js";
import { decimalsOf, exact, signedText, signedValue } from "./number.js";
import { probabilityOf } from "./targets.js";

const STRONGEST = 3;
const [AWAY, EDGE] = [14, 8]; // pixels from the pointer, and from the sides of the circuit

/** Show the card on the event "hover", while the pointer or the focus is in the circuit. */
export function mountHoverCard(app, places, contextNow) {
  const card = h("div", { class: "hover-card", role: "tooltip", hidden: true });
  document.body.append(card);
  let pointer = null; // where it is in the circuit; null elsewhere
  places.circuit.addEventListener("pointermove", ({ clientX, clientY }) => {
    pointer = { x: clientX, y: clientY };
    if (!card.hidden) placeCard(card, pointer, places.circuit);
  }, { capture: true, passive: true });
  const hide = () => (card.hidden = true);
  places.circuit.addEventListener("pointerleave", () => {
    pointer = null;
    hide();
  });
  app.on("focus", hide);
  app.on("hover", (node) => {
    const anchor = node === null ? null : pointer ?? focused(places.circuit);
    card.hidden = anchor === null;
    if (!anchor) return;
    replaceChildren(card, content(contextNow(), node));
    placeCard(card, anchor, places.circuit);
  });
}

/** Return the right end of the focused element of the circuit, or null. */
function focused(circuit) {
  const element = document.activeElement;
  if (!circuit.contains(element) || element === circuit) return null;
  const box = element.getBoundingClientRect();
  return { x: box.right, y: box.top };
}

/** Put a card beside a point, on the side where it fits into the circuit. */
export function placeCard(card, { x, y }, circuit) {
  const { offsetWidth: width, offsetHeight: height } = card;
  const { right, bottom } = circuit.getBoundingClientRect();
  const left = x + AWAY + width + EDGE > right ? x - AWAY - width : x + AWAY;
  const top = Math.min(y + AWAY, bottom - height - EDGE);
  card.style.transform = `translate(${Math.round(Math.max(EDGE, left))}px, ${Math.round(Math.max(EDGE, top))}px)`;
}

function content(context, node) {
  const { graph } = context;
  const title = headline(context, node);
  const change = expectedChange(graph, node, context.state.target);
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return [
    h("p", { class: "hover-title" }, kindMark(graph, node), title, h("span", { class: title ? "code faint" : "code" }, graph.nameOf(node))),
    h("dl", {}, graph.kind[node] === LOGIT && fact("probability", probabilityOf(graph.probability[node])),
      fact("influence", exact(graph.influence[node], percent(graph.influence[node]))),
      graph.kind[node] === FEATURE && fact("activation", signedText(graph.activation[node]).replace("+", "")),
      change && fact("if ablated", signedValue(change.value))),
    strongest(context, "in", inputsOf(graph, node, context.shown)),
    strongest(context, "out", outputsOf(graph, node, context.shown)),
  ];
}

function strongest(context, title, edges) {
  const first = edges.filter((each) => each.shown).slice(0, STRONGEST);
  if (!first.length) return null;
  const weights = first.map((each) => each.weight);
  const [largest, decimals] = [largestOf(weights), decimalsOf(weights)];
  return h("table", {}, h("tbody", {}, first.map(({ node, weight }, at) => h("tr", {}, h("th", { scope: "row" }, at === 0 ? title : ""),
    h("td", {}, nodeName(context, node)), h("td", {}, signedBar(weight, largest)), h("td", {}, signedValue(weight, decimals))))));
}
