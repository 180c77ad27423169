// The graph as JSON of Neuronpedia, field by field as graphs/exchange/neuronpedia_writer.py.

import { heaviestOf } from "../circuit/strength.js";
import { labelOf } from "../data/labels.js";
import { ERROR, FEATURE, LOGIT, NONE, TOKEN } from "../data/graph.js";
import { membersOf } from "../groups/members.js";
import { readsAsNode } from "../state/names.js";

const TYPES = { [FEATURE]: "cross layer transcoder", [ERROR]: "mlp reconstruction error", [TOKEN]: "embedding", [LOGIT]: "logit" };
const ATTENTION_TYPES = { [FEATURE]: "lorsa", [ERROR]: "lorsa error" };
const OWN_ENTRIES = ["model", "transcoders", "settings", "traced", "pruning", "versions", "masked_positions", "notes"];
const THRESHOLDS = ["node_threshold", "edge_threshold"];
const SCHEMA_VERSION = 1;
const VIRTUAL_TOKEN = 2 ** 24; // ids from here on are targets that are not tokens
const SLUG_CHARACTERS = 60;
const LINKS_AT_ONCE = 2 ** 14;

/** Return the parts of the JSON text of a graph with the groups and labels of its state. */
export function neuronpediaParts(graph, state) {
  const nodes = nodesOf(graph, state);
  const ids = nodes.map(({ node_id }) => node_id);
  const head = JSON.stringify({ metadata: metadataOf(graph, state, ids), qParams: paramsOf(graph, state, ids) });
  return [`${head.slice(0, -1)},"nodes":[\n`, nodes.map((node) => JSON.stringify(node)).join(",\n"), '],"links":[\n', ...links(graph, ids), "]}\n"];
}

// --- nodes ----------------------------------------------------------------------------------

function nodesOf(graph, state) {
  const influence = influenceOf(graph);
  const nodes = Array.from({ length: graph.size }, (_, node) => ({
    ...identity(graph, node),
    ctx_idx: graph.position[node],
    feature_type: (isOfAttention(graph, node) ? ATTENTION_TYPES : TYPES)[graph.kind[node]],
    token_prob: 0,
    is_target_logit: false,
    run_idx: 0,
    reverse_ctx_idx: 0,
    clerp: clerpOf(labelOf(graph, node, state.labels)?.text ?? ""),
    influence: influence[node],
    activation: graph.activation[node], // NaN is null in JSON
  }));
  describeTargets(graph, nodes);
  return nodes;
}

/** Return the entries that say which node it is; those of targets follow in `describeTargets`. */
function identity(graph, node) {
  const [kind, position, token] = [graph.kind[node], graph.position[node], graph.token[node]];
  if (kind !== FEATURE && kind !== ERROR) return { node_id: `E_${token}_${position}`, feature: position, layer: "E", jsNodeId: `E_${token}-${position}` };
  const layer = hasHalves(graph) ? graph.layer[node] >> 1 : graph.layer[node];
  const of = isOfAttention(graph, node);
  const feature = graph.feature[node];
  const name = kind === FEATURE ? `${layer}${of ? "_lor" : ""}_${feature}` : `${layer}${of ? "_error_attn" : "_-1"}`;
  return {
    node_id: `${name}_${position}`,
    feature: kind === FEATURE ? cantorPair(layer, feature) : -1,
    layer: String(layer),
    jsNodeId: `${name}-${kind === FEATURE ? 0 : position}`,
  };
}

/** Write ids, tokens and probabilities of targets into the objects of their nodes. */
function describeTargets(graph, nodes) {
  const layer = String(Math.floor(graph.info.model.n_layers / (hasHalves(graph) ? 2 : 1)) + 1);
  const targets = graph.info.targets.filter(({ node }) => node >= graph.firstLogit);
  const heaviest = heaviestOf(targets);
  const taken = new Set();
  for (const target of targets) {
    const { node, weight } = target;
    const position = nodes[node].ctx_idx;
    const isToken = graph.token[node] !== NONE && !taken.has(`${graph.token[node]} ${position}`);
    const number = isToken ? graph.token[node] : VIRTUAL_TOKEN + node;
    taken.add(`${number} ${position}`);
    const probability = target.probability ?? (Number.isNaN(graph.probability[node]) ? weight : graph.probability[node]);
    Object.assign(nodes[node], {
      node_id: `${layer}_${number}_${position}`,
      feature: number,
      layer,
      jsNodeId: `L_${number}-${position}`,
      token_prob: probability,
      is_target_logit: target === heaviest,
      clerp: `Output "${graph.texts("text")[node]}" (p=${threeDecimals(probability)})`, // the frontend needs this form
    });
  }
}

/** Return the influence of every node as the layout has it: cumulative shares; null for targets. */
function influenceOf(graph) {
  const known = graph.info.imported?.influence ?? {};
  const isKnown = Object.keys(known).length > 0 && !graph.info.pruning;
  const shares = isKnown ? null : cumulativeShares(graph.influence.slice(0, graph.firstLogit));
  const held = graph.info.pruning?.node_threshold ?? 1;
  return Array.from({ length: graph.size }, (_, node) => {
    if (node >= graph.firstLogit) return null;
    return isKnown ? (known[graph.nameOf(node)] ?? null) : shares[node] * held;
  });
}

/** Return for every node the share of all influence that it and all more influential nodes hold. */
function cumulativeShares(influence) {
  const total = influence.reduce((sum, value) => sum + value, 0);
  const shares = new Float64Array(influence.length).fill(1);
  const descending = Array.from(influence.keys()).sort((a, b) => influence[b] - influence[a]);
  let sum = 0;
  if (total > 0) for (const node of descending) shares[node] = Math.min((sum += influence[node]) / total, 1);
  return shares;
}

// --- metadata -------------------------------------------------------------------------------

function metadataOf(graph, state, ids) {
  const { info } = graph;
  const version = info.versions.cotrace;
  const generator = { name: "cotrace", ...(typeof version === "string" ? { version } : {}) };
  const thresholds = info.pruning && Object.fromEntries(THRESHOLDS.map((name) => [name, info.pruning[name]]));
  return {
    slug: info.prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, SLUG_CHARACTERS) || "graph",
    scan: info.model.name,
    transcoder_list: [],
    info: { transcoder_set: info.transcoders.name, generator },
    ...info.imported?.metadata,
    prompt_tokens: info.tokens,
    prompt: info.prompt,
    schema_version: SCHEMA_VERSION,
    ...(thresholds && { node_threshold: thresholds.node_threshold, pruning_settings: thresholds }),
    cotrace: ownEntries(graph, state, ids),
  };
}

/** Return what `cotrace.open` of the file puts back: entries of the metadata, targets, and who labelled what. */
function ownEntries(graph, state, ids) {
  const { info } = graph;
  const targets = info.targets.map((target) => ({ ...target, node: ids[target.node], token: graph.token[target.node] === NONE ? null : graph.token[target.node] }));
  const sources = ids.map((id, node) => [id, labelOf(graph, node, state.labels)?.source]).filter(([, source]) => source);
  const entries = OWN_ENTRIES.filter((key) => key in info).map((key) => [key, info[key]]);
  return { ...Object.fromEntries(entries), targets, label_sources: Object.fromEntries(sources) };
}

/** Return what the frontend shows first: the nodes of groups, and what the file of an imported graph had. */
function paramsOf(graph, state, ids) {
  const groups = state.groups.map((group) => [group.name, membersOf(graph, group).map((node) => ids[node])]).filter(([, nodes]) => nodes.length);
  const theirs = { pinnedIds: [], supernodes: [], linkType: "both", clickedId: "", sg_pos: "", ...graph.info.imported?.qParams };
  const known = new Set(ids);
  const pinned = Array.isArray(theirs.pinnedIds) ? theirs.pinnedIds.filter((id) => known.has(id)) : [];
  const pinnedIds = [...new Set([...pinned, ...groups.flatMap(([, nodes]) => nodes)])];
  return { ...theirs, pinnedIds, supernodes: groups.map(([name, nodes]) => [clerpOf(name), ...nodes]) };
}

// --- links ----------------------------------------------------------------------------------

/** Return the texts of all links, many in each. */
function links(graph, ids) {
  const quoted = ids.map((id) => JSON.stringify(id));
  const [parts, part] = [[], []];
  const flush = () => parts.push((parts.length ? ",\n" : "") + part.splice(0).join(",\n"));
  for (let target = 0; target < graph.size; target++) {
    for (let edge = Number(graph.indptr[target]); edge < graph.indptr[target + 1]; edge++) {
      part.push(`{"source":${quoted[graph.sources[edge]]},"target":${quoted[target]},"weight":${graph.weights[edge]}}`);
      if (part.length === LINKS_AT_ONCE) flush();
    }
  }
  if (part.length) flush();
  return parts;
}

// --- values ---------------------------------------------------------------------------------

/** True for graphs that were imported with nodes of attention, whose layers are counted in halves. */
function hasHalves(graph) {
  return graph.info.imported?.half_layers ?? false;
}

function isOfAttention(graph, node) {
  return hasHalves(graph) && graph.layer[node] % 2 === 0 && graph.kind[node] in ATTENTION_TYPES;
}

/** Return the `clerp` of a label: without the quotes around what would read as a node. */
function clerpOf(label) {
  const inner = label.length > 2 && label.startsWith('"') && label.endsWith('"') ? label.slice(1, -1) : label;
  return /^\s*\p{Nd}+\s*$/u.test(inner) || readsAsNode(inner) ? inner : label;
}

function cantorPair(layer, index) {
  return ((layer + index) * (layer + index + 1)) / 2 + index;
}

/** Return a number with three decimals; halves go to the even digit, as in Python. */
function threeDecimals(value) {
  const isTie = Number.isInteger(16 * value) && Math.abs(16 * value) % 2 === 1;
  const below = Math.floor(1000 * value);
  return isTie ? ((below + (below % 2)) / 1000).toFixed(3) : value.toFixed(3);
}
