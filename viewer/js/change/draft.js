// What is to be changed in the model: edits of nodes, before they are sent. A draft is plain data that is never changed in place:
// {edits: [{kind, nodes: [name], value: text, group?}], freeze, everywhere, tokens}.

import { ERROR, FEATURE, TOKEN } from "../data/graph.js";

/** Kinds of edits, as viewer/server/edits.py. */
export const EDIT_KINDS = [
  { id: "ablate", title: "Ablate", value: null },
  { id: "multiply", title: "Multiply by", value: "2" },
  { id: "set", title: "Set to", value: "" },
];

/** What stays as it is without edits, as `Model.intervene`. */
export const FREEZES = [
  { id: "none", title: "Nothing" },
  { id: "attention", title: "Attention patterns" },
  { id: "all", title: "All but these nodes" },
];

/** The draft before anything is chosen. */
export const EMPTY_DRAFT = { edits: [], freeze: "none", everywhere: false, tokens: "20" };

const MOST_TOKENS = 200;

/** Return the names of nodes that can be edited: targets cannot, unless they are features. */
export function editable(graph, names) {
  return names.filter((name) => [FEATURE, ERROR, TOKEN].includes(graph.kind[graph.nodeOf(name)]));
}

/** Return the names that a draft does not have yet. */
export function newNodes(draft, names) {
  const taken = new Set(draft.edits.flatMap(({ nodes }) => nodes));
  return names.filter((name) => !taken.has(name));
}

/** Return the draft with one more edit of nodes that it does not have yet; `group` is the name of their group. */
export function withNodes(draft, names, group = null) {
  const nodes = newNodes(draft, names);
  return nodes.length ? { ...draft, edits: [...draft.edits, { kind: "ablate", nodes, value: "", group }] } : draft;
}

/** Return the draft with other values of one edit; the edit is gone if it has no nodes. */
export function withEdit(draft, at, values) {
  const edits = draft.edits.map((edit, each) => (each === at ? { ...edit, ...values } : edit));
  return { ...draft, edits: edits.filter(({ nodes }) => nodes.length) };
}

/** Return what is wrong with an edit, or "". */
export function problemOf(graph, { kind, nodes, value }) {
  if (kind === "ablate") return "";
  if (kind === "set" && isOfTokens(graph, nodes)) return value ? "" : "Write a token, such as “ cold”.";
  if (kind === "set" && nodes.some((name) => graph.kind[graph.nodeOf(name)] !== FEATURE)) {
    return "Error nodes and tokens are vectors: ablate or multiply them, or set tokens apart from features.";
  }
  return value.trim() && Number.isFinite(Number(value)) ? "" : "Write a number.";
}

/** Return whether an edit is of tokens only, which are set to a text. */
export function isOfTokens(graph, nodes) {
  return nodes.every((name) => graph.kind[graph.nodeOf(name)] === TOKEN);
}

/** Return what is wrong with the number of tokens, or "". */
export function tokensProblem({ tokens }) {
  const count = Number(tokens);
  return Number.isInteger(count) && count >= 1 && count <= MOST_TOKENS ? "" : `Write a number from 1 to ${MOST_TOKENS}.`;
}

/** Return the request of a draft, as `client.change` takes it. */
export function requestOf(graph, { edits, freeze, everywhere, tokens }) {
  const value = ({ kind, nodes, value: text }) => (kind === "set" && isOfTokens(graph, nodes) ? text : Number(text));
  const sent = edits.map((edit) => ({ kind: edit.kind, nodes: edit.nodes, ...(edit.kind === "ablate" ? {} : { value: value(edit) }) }));
  return { edits: sent, freeze, everywhere, max_new_tokens: Number(tokens) };
}

/** Return a draft in words: ablate L17#264@5, multiply "cold" by 2. */
export function describe({ edits }) {
  return edits.map(inWords).join(", ");
}

function inWords({ kind, nodes, value, group }) {
  const what = group ? `“${group}”` : nodes.length > 2 ? `${nodes.length} nodes` : nodes.join(" and ");
  return { ablate: `ablate ${what}`, multiply: `multiply ${what} by ${value}`, set: `set ${what} to ${value}` }[kind];
}
