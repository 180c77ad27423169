// A group as one: its members, what they hold together, and the edges between them and the rest, added up.

import { createActions } from "../groups/actions.js";
import { summedInfluence } from "../circuit/strength.js";
import { influenceShare } from "../groups/figures.js";
import { openSuggestions, ownGroups } from "../groups/members.js";
import { visible } from "../data/visible.js";
import { counted, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { quietButton } from "./buttons.js";
import { largestOf, signedBar } from "./bar.js";
import { targetText } from "./targets.js";
import { groupEffect, groupInputs, groupMembers, groupOutputs } from "./group_sums.js";
import { shareValue } from "./estimates.js";
import { nodeButton } from "./names.js";
import { decimalsOf, exact, signedValue } from "./number.js";
import { explanation, figures, section } from "./section.js";

const PREFIX = "group:";
const FIRST = 10;
const MOST = 200; // lines of a list

/** Return the name by which the panel shows a group. */
function groupKey({ name }) {
  return PREFIX + name;
}

/** Return whether a name of the panel is that of a group. */
export function isGroupKey(name) {
  return name?.startsWith(PREFIX) ?? false;
}

/** Return {group, isSuggestion} of a name of the panel: a group of the user's, else an open suggestion; null for other names. */
export function groupOf({ graph, state, extras }, name) {
  if (!isGroupKey(name)) return null;
  const isIt = (group) => groupKey(group) === name;
  const own = ownGroups(state.groups).find(isIt);
  if (own) return { group: own, isSuggestion: false };
  const suggestion = openSuggestions(graph, state, extras.suggested ?? []).find(isIt);
  return suggestion ? { group: suggestion, isSuggestion: true } : null;
}

/** Return {element, update, edit} of a group; `edit` begins renaming it. */
export function groupView(context, { group, isSuggestion }, actions) {
  const members = groupMembers(context.graph, group);
  const lists = h("div");
  const title = h("div", { class: "subject-title" });
  const edit = () => !isSuggestion && replaceChildren(title, nameField(context, group, showTitle));
  const showTitle = () => replaceChildren(title, h("h2", {}, h("bdi", {}, visible(group.name))));
  const update = () => replaceChildren(lists,
    edgeSection(context, "Inputs", groupInputs(context.graph, members, context.shown)),
    edgeSection(context, "Outputs", groupOutputs(context.graph, members, context.shown)));
  showTitle();
  update();
  const element = h("div", {},
    h("header", { class: "subject" },
      h("p", { class: "site" }, h("span", {}, `${isSuggestion ? "Suggested group" : "Group"} · ${counted(members.length, "node")}`), actions),
      title,
      group.label && h("p", { class: "subject-name" }, h("bdi", { class: "label-text" }, visible(group.label))),
      group.reason && explanation(visible(group.reason)),
      h("p", { class: "list-footer" }, buttons(context, { group, isSuggestion }, edit))),
    numbers(context, members),
    section("Members", counted(members.length, "node"), memberList(context, members)),
    lists);
  return { element, update, edit };
}

/** Return the numbers of the members together: influence with its standard error, its share of the features', and the expected change. */
export function groupNumbers({ graph, state }, members) {
  const { value, error } = summedInfluence(graph, members, state.target);
  return { influence: value, error, share: influenceShare(graph, members, state.target), change: groupEffect(graph, members, state.target) };
}

function numbers(context, members) {
  const { influence, error, share, change } = groupNumbers(context, members);
  const { influenceName } = context;
  const title = "The sum of the members. A path through several of them counts for each.";
  return figures([
    [influenceName[0].toUpperCase() + influenceName.slice(1), h("span", { title }, shareValue(influence, error)), `${percent(share)} of all features'`],
    change && ["If ablated", signedValue(change.value), change.target ? ["of ", targetText(context, change.target)] : "all targets"],
  ].filter(Boolean), error !== null);
}

function buttons({ app, open }, { group, isSuggestion }, edit) {
  const actions = createActions(app);
  const button = (key, text, run) => quietButton(`${key} group`, "small", run, {}, text);
  const accept = () => {
    actions.accept([group]);
    open(groupKey(actions.groups().at(-1)));
  };
  if (isSuggestion) return [button("accept", "Accept", accept), button("dismiss", "Dismiss", () => actions.dismiss([group]))];
  return [button("rename", "Rename", edit), button("ungroup", "Ungroup", () => actions.ungroup([group])), button("select", "Select its nodes", () => actions.selectGroups([group]))];
}

/** Return the field for another name; Enter renames, Escape and leaving the field do not. */
function nameField({ app, open }, group, done) {
  const problem = h("p", { class: "problem", role: "alert" });
  const field = h("input", { class: "field label-field", value: group.name, "aria-label": `New name of ${group.name}`, dataset: { key: "group name" } });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.stopPropagation();
    event.preventDefault();
    if (event.key === "Escape") return done();
    problem.textContent = createActions(app).rename(group, field.value, () => {});
    if (!problem.textContent) open(groupKey({ name: field.value }));
  });
  field.addEventListener("blur", () => problem.textContent || done());
  requestAnimationFrame(() => (field.focus(), field.select()));
  return [field, problem];
}

function memberList(context, members) {
  if (!members.length) return explanation("None of its nodes is in this graph.");
  const { influence } = context;
  const ranked = [...members].sort((a, b) => influence[b] - influence[a] || a - b).slice(0, MOST);
  return h("ul", { class: "edge-list" }, ranked.map((node) => h("li", { class: "edge-row pair-row" },
    nodeButton(context, node, { dataset: { key: `member ${node}` } }), h("span"), exact(influence[node], percent(influence[node])))));
}

/** Return a part with edges {node, weight, edges}, each the sum of those between a node and the members. */
function edgeSection(context, title, edges) {
  if (!edges.length) return section(title, "", explanation(`No edges ${title === "Inputs" ? "into" : "out of"} its nodes are shown.`));
  const weights = edges.map(({ weight }) => weight);
  const [largest, decimals] = [largestOf(weights), decimalsOf(weights)];
  const rows = edges.slice(0, MOST).map(({ node, weight, edges: number }, rank) => {
    const words = `sum of ${counted(number, "edge")}`;
    return h("li", { class: "edge-row share-row", hidden: rank >= FIRST, title: words, dataset: { node: context.graph.nameOf(node) } },
      nodeButton(context, node, { dataset: { key: `${title} ${node}` } }), signedBar(weight, largest), signedValue(weight, decimals));
  });
  const show = () => {
    for (const row of rows) row.hidden = false;
    more.remove();
  };
  const more = h("p", { class: "list-footer" }, rows.length > FIRST && quietButton(`more ${title}`, "small", show, {}, `${rows.length - FIRST} more`));
  return section(title, "summed over its nodes", h("ul", { class: "edge-list" }, rows), more);
}
