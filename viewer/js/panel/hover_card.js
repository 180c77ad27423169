// The small card beside the node under the pointer or the focus of the circuit.

import { FEATURE, LOGIT } from "../data/graph.js";
import { visible } from "../data/visible.js";
import { counted } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { kindMark } from "../ui/node.js";
import { largestOf, signedBar } from "./bar.js";
import { inputsOf, outputsOf } from "./edges.js";
import { groupNumbers, groupOf } from "./group_view.js";
import { groupInputs, groupMembers, groupOutputs } from "./group_sums.js";
import { expectedChange } from "./effects.js";
import { certaintyOf, influenceValue, rowOf, shareValue } from "./estimates.js";
import { headline, nodeName } from "./names.js";
import { decimalsOf, signedText, signedValue } from "./number.js";
import { probabilityOf } from "./targets.js";

const STRONGEST = 3;
const WRITTEN = ["pins", "labels", "groups", "target"]; // keys of the state after which a card would be out of date
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
  const show = (parts) => {
    const anchor = parts && (pointer ?? focused(places.circuit));
    card.hidden = !anchor;
    if (!anchor) return;
    replaceChildren(card, parts);
    placeCard(card, anchor, places.circuit);
  };
  places.circuit.addEventListener("click", hide); // what was clicked is in the panel
  app.store.subscribe(({ keys }) => keys.some((key) => WRITTEN.includes(key)) && hide());
  app.on("focus", hide);
  app.on("group", hide);
  app.on("hover", (node) => show(node === null ? null : content(contextNow(), node)));
  app.on("hover-group", (key) => show(groupContent(contextNow(), key)));
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
  const words = [graph.kind[node] !== LOGIT && certaintyOf(context, node)?.words, rowOf(context, node)?.text].filter(Boolean);
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return [
    h("p", { class: "hover-title" }, kindMark(graph, node), title, h("span", { class: title ? "code faint" : "code" }, graph.nameOf(node))),
    h("dl", {}, graph.kind[node] === LOGIT && fact("probability", probabilityOf(graph.probability[node])),
      fact(context.influenceName, influenceValue(context, node)),
      graph.kind[node] === FEATURE && fact("activation", signedText(graph.activation[node]).replace("+", "")),
      change && fact("if ablated", signedValue(change.value))),
    words.length > 0 && h("p", { class: "explanation" }, words.join(" · ")),
    strongest(context, "in", inputsOf(graph, node, context.shown)),
    strongest(context, "out", outputsOf(graph, node, context.shown)),
  ];
}

function groupContent(context, key) {
  const found = groupOf(context, key);
  if (!found) return null;
  const members = groupMembers(context.graph, found.group);
  const { influence, error, change } = groupNumbers(context, members);
  const shown = (edges) => edges.map((each) => ({ ...each, shown: true }));
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return [
    h("p", { class: "hover-title" }, h("bdi", { class: "label-text" }, visible(found.group.name)), h("span", { class: "code faint" }, counted(members.length, "node"))),
    h("dl", {}, fact(context.influenceName, shareValue(influence, error)), change && fact("if ablated", signedValue(change.value))),
    strongest(context, "in", shown(groupInputs(context.graph, members, context.shown))),
    strongest(context, "out", shown(groupOutputs(context.graph, members, context.shown))),
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
