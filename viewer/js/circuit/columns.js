// Columns of a circuit: one per position, or per span of positions that is collapsed.

/**
 * Return {columns, columnOf}: [{first, last, text, isCollapsed}] from left to right, and the column of every position.
 *
 * Args: tokens, [{text}] by position; collapsed, [[first, last]] positions.
 */
export function columnsOf(tokens, collapsed) {
  const columns = [];
  const columnOf = new Int32Array(tokens.length);
  for (let first = 0; first < tokens.length; ) {
    const span = collapsed.find((each) => each[0] <= first && first <= each[1]);
    const last = span ? Math.min(span[1], tokens.length - 1) : first;
    columnOf.fill(columns.length, first, last + 1);
    columns.push({ first, last, text: spanText(tokens, first, last), isCollapsed: span !== undefined });
    first = last + 1;
  }
  return { columns, columnOf };
}

function spanText(tokens, first, last) {
  if (first === last) return tokens[first].text;
  return `${tokens[first].text} … ${tokens[last].text}`;
}

/** Return spans of collapsed positions after one more was collapsed: those that it touches become part of it. */
export function withCollapsed(collapsed, first, last) {
  const touched = collapsed.filter((span) => span[0] <= last && first <= span[1]);
  const merged = touched.reduce((all, span) => [Math.min(all[0], span[0]), Math.max(all[1], span[1])], [first, last]);
  return [...collapsed.filter((span) => !touched.includes(span)), merged].sort((a, b) => a[0] - b[0]);
}

/** Return spans of collapsed positions without those that hold a position. */
export function withExpanded(collapsed, position) {
  return collapsed.filter((span) => position < span[0] || position > span[1]);
}
