// Cells of a circuit: the nodes of one layer in one column. Of full cells only the strongest nodes are shown.

const MOST_NODES = 16; // of a cell before the others hide behind "+12"
const MOST_COLLAPSED = 3; // the same for columns that are collapsed

/**
 * Return {items, host, rows, tokens, targets}.
 *
 * `items` are the nodes of the model and, after them, what is shown for nodes that hide: items of kind "more" and "span".
 * `host` is the item that is shown for each item: itself, another, or -1. `rows` maps each layer to a map from columns to
 * numbers of items, and `tokens` columns to numbers; `targets` are numbers.
 *
 * Args: model; layout of columns {columns, columnOf}; options {opened, kept}: Sets of names of opened cells, and of nodes that are
 * always shown.
 */
export function cellsOf(model, { columns, columnOf }, { opened, kept }) {
  const cells = { items: [...model.nodes], host: [...model.nodes.keys()], rows: new Map(), tokens: new Map(), targets: [] };
  model.nodes.forEach((node, at) => {
    if (node.isOpen) return;
    if (node.kind === "logit") cells.targets.push(at);
    else if (node.kind === "token") listIn(cells.tokens, columnOf[node.position]).push(at);
    else if (node.inside === undefined) listIn(mapIn(cells.rows, node.layer), columnOf[node.position]).push(at);
  });
  model.nodes.forEach((node, at) => {
    if (node.isOpen) listIn(mapIn(cells.rows, node.layer), columnOf[node.position]).push(at);
  });
  for (const [layer, row] of cells.rows) {
    for (const [column, cell] of row) {
      const place = { name: `L${layer}@${columns[column].first}`, layer, position: columns[column].first };
      const most = columns[column].isCollapsed ? MOST_COLLAPSED : MOST_NODES;
      if (!opened.has(place.name)) row.set(column, withRest(cells, cell, most, place, kept));
    }
  }
  for (const [column, tokens] of cells.tokens) {
    if (tokens.length > 1) cells.tokens.set(column, [spanItem(cells, tokens, columns[column])]);
  }
  return cells;
}

/** Return a cell with an item in place of all but the strongest nodes, if there are more than `most`. */
function withRest(cells, cell, most, { name, layer, position }, kept) {
  if (cell.length <= most) return cell;
  const rank = (at) => cells.items[at].size + (kept.has(cells.items[at].name) || cells.items[at].isOpen ? 2 : 0);
  const ranked = [...cell].sort((a, b) => rank(b) - rank(a) || a - b);
  const [shown, hidden] = [ranked.slice(0, most - 1), ranked.slice(most - 1)];
  const title = `${hidden.length} more nodes in layer ${layer}; open`;
  return [...shown, hostItem(cells, hidden, { name: `more:${name}`, kind: "more", layer, position, label: `+${hidden.length}`, title })];
}

function spanItem(cells, tokens, { first, last, text }) {
  const title = `positions ${first} to ${last}, collapsed; expand`;
  const size = Math.max(...tokens.map((at) => cells.items[at].size));
  return hostItem(cells, tokens, { name: `span:${first}-${last}`, kind: "span", layer: -1, position: first, label: text, title, size });
}

function hostItem(cells, hidden, item) {
  const at = cells.items.push({ node: null, size: 0, detail: "", members: hidden.map((each) => cells.items[each].name), ...item }) - 1;
  cells.host.push(at);
  for (const each of hidden) cells.host[each] = at;
  return at;
}

function listIn(map, key) {
  if (!map.has(key)) map.set(key, []);
  return map.get(key);
}

function mapIn(map, key) {
  if (!map.has(key)) map.set(key, new Map());
  return map.get(key);
}
