// Search in the names, labels and texts of the nodes of a graph.

import { labelOf } from "./labels.js";

/** Return the text of a node beside its name: the label of a feature or error node, the text of a token or target. */
export function textOfNode(graph, node, labels) {
  return labelOf(graph, node, labels)?.text ?? graph.texts("text")[node] ?? "";
}

/** Return a search in a graph with these labels of a user: `match(query)` returns a test of nodes, `best(query, most, influence)` nodes. */
export function createSearch(graph, labels) {
  const texts = Array.from({ length: graph.size }, (_, node) => `${graph.nameOf(node)}\n${textOfNode(graph, node, labels)}`.toLowerCase());
  const match = (query) => {
    const terms = termsOf(query);
    return (node) => terms.every((term) => texts[node].includes(term));
  };
  return {
    match,
    /** Return {nodes, total}: the best nodes, those whose name or text is or begins like the query first, then by influence. */
    best(query, most) {
      const found = Array.from(graph.kind.keys()).filter(match(query));
      const whole = query.trim().toLowerCase();
      const ranks = new Map(found.map((node) => [node, rank(texts[node], whole)]));
      found.sort((a, b) => ranks.get(a) - ranks.get(b) || graph.influence[b] - graph.influence[a] || a - b);
      return { nodes: found.slice(0, most), total: found.length };
    },
  };
}

function termsOf(query) {
  return query.toLowerCase().split(/\s+/).filter(Boolean);
}

function rank(text, query) {
  const [name, ...rest] = text.split("\n");
  const label = rest.join("\n").trim();
  if (name === query) return 0;
  if (label === query || name.startsWith(`${query}@`)) return 1;
  return label.startsWith(query) || label.includes(` ${query}`) ? 2 : 3;
}
