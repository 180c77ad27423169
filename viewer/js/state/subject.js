// What the panel can show: a node, or an edge, written "source -> target". Both are names in the pins of the state.

const ARROW = " -> ";

/** Return the names of the ends of an edge, or of a node alone. */
export function endsOf(name) {
  return name.split(ARROW);
}

/** Return the name of the edge between nodes with some names. */
export function joinedName(source, target) {
  return source + ARROW + target;
}

/** Return {name, node}, or {name, edge, source, target}; null for a name that the graph does not have. */
export function subjectOf(graph, name) {
  const [source, target] = endsOf(name).map((each) => graph.nodeOf(each));
  if (source < 0 || target < 0) return null;
  if (target === undefined) return { name, node: source };
  const edge = edgeBetween(graph, source, target);
  return edge < 0 ? null : { name, edge, source, target };
}

/** Return the name of the edge between two nodes. */
export function edgeName(graph, source, target) {
  return joinedName(graph.nameOf(source), graph.nameOf(target));
}

/** Return the number of the edge between two nodes, or -1. Sources of a row ascend. */
export function edgeBetween(graph, source, target) {
  let [first, after] = [graph.indptr[target], graph.indptr[target + 1]];
  while (first < after) {
    const middle = (first + after) >> 1;
    if (graph.sources[middle] < source) first = middle + 1;
    else after = middle;
  }
  return first < graph.indptr[target + 1] && graph.sources[first] === source ? first : -1;
}
