// What the panel shows before anything is chosen: what the model says next, and where to begin.

import { FEATURE } from "../data/graph.js";
import { percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { shareBar } from "./bar.js";
import { samplingText } from "./estimates.js";
import { nodeButton } from "./names.js";
import { exact } from "./number.js";
import { explanation, section } from "./section.js";
import { targetSection } from "./targets.js";

const FIRST = 10;
const HINT = "Choose a node in the circuit to see what it reads, what it writes to and what it responds to.";

/** Return {element, update}. */
export function overview(context) {
  const strongest = h("div");
  const update = () => replaceChildren(strongest, strongestFeatures(context));
  update();
  const element = h("div", {},
    h("header", { class: "subject" }, explanation(HINT), context.graph.isEstimated && explanation(samplingText(context.graph))),
    targetSection(context),
    section("Most influential features", noteOf(context), strongest),
    leftOut(context));
  return { element, update };
}

/** Return what the influence of the list is on, and of which nodes it is. */
function noteOf({ influenceName }) {
  return [influenceName.replace(/^influence ?/, ""), "of those shown"].filter(Boolean).join(", ");
}

/** Return what the page lacks of the graph file and its feature store, or null. */
function leftOut({ extras }) {
  return extras.truncated?.length ? section("Left out of this page", "", extras.truncated.map((sentence) => explanation(sentence))) : null;
}

function strongestFeatures(context) {
  const { graph, influence } = context;
  const features = Array.from(graph.kind.keys()).filter((node) => graph.kind[node] === FEATURE && context.isShown(node));
  const first = features.sort((a, b) => influence[b] - influence[a] || a - b).slice(0, FIRST);
  if (!first.length) return explanation("No features are shown.");
  const most = influence[first[0]];
  return h("ul", { class: "edge-list" }, first.map((node) => h("li", { class: "edge-row share-row" },
    nodeButton(context, node, { dataset: { key: `top ${node}` } }),
    shareBar(most > 0 ? influence[node] / most : 0), exact(influence[node], percent(influence[node])))));
}
