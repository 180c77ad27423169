// Scores of the part of the graph in groups, and of the selection: everything else counts as error.

import { influenceName } from "../circuit/strength.js";
import { h, replaceChildren } from "../ui/dom.js";
import { counted, intervalText, percent } from "../ui/format.js";
import { influenceShare } from "./figures.js";
import { maskOf } from "./members.js";

/** Return {element, render}: two lines of scores, and a function that computes them again. */
export function createScores(actions) {
  const element = h("div", { class: "group-scores", "aria-live": "polite" });
  let latest = 0;

  const render = async () => {
    const request = ++latest;
    const { graph, pruner } = actions.file();
    const grouped = maskOf(graph, actions.groups());
    const selected = new Uint8Array(graph.size);
    for (const node of actions.selected()) selected[node] = 1;
    const lines = await linesOf(graph, actions.state().target, pruner, [["Groups keep", grouped], ["The selection keeps", selected]]).catch((error) => `No scores: ${error.message}`);
    if (request === latest) replaceChildren(element, lines);
  };
  return { element, render };
}

async function linesOf(graph, target, pruner, all) {
  const parts = all.filter(([, mask]) => mask.includes(1));
  const whole = parts.length ? await pruner.scores(new Uint8Array(graph.size).fill(1)) : null;
  const lines = [];
  for (const [title, mask] of parts) lines.push(line(graph, target, title, mask, await pruner.scores(mask), whole));
  return lines;
}

function line(graph, target, title, mask, scores, whole) {
  const nodes = Array.from(mask.keys()).filter((node) => mask[node]);
  const score = (name) => {
    const written = [scores, whole].map((each) => h("span", { title: intervalText(each[`${name}_interval`]) }, each[name].toFixed(3)));
    return [`${name} `, written[0], " of ", written[1]];
  };
  return h(
    "p",
    { title: "Nodes that are not in it count as error." },
    `${title} ${percent(influenceShare(graph, nodes, target))} of the features’ ${influenceName(graph, target)} (${counted(nodes.length, "node")}): `,
    score("replacement"), ", ", score("completeness"),
  );
}
