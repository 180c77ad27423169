// Numbers of a report as text, and its rows in groups.

const MINUS = "−";

/** Return a number with at most four significant digits. */
export function shortNumber(value) {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return String(value).replace("-", MINUS);
  const size = Math.abs(value);
  const text = size >= 1e-4 && size < 1e6 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
  return text.replace("-", MINUS);
}

/** Return a number with its sign and two decimals: "+1.28", "−0.79". */
export function signed(value) {
  return `${value < 0 ? MINUS : "+"}${Math.abs(value).toFixed(2)}`;
}

/** Return a share as "26%", small ones as "<1%". */
export function percent(share) {
  return share > 0 && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`;
}

/** Return a score as "0.95", a missing one as "–". */
export function score(value) {
  return value === null ? "–" : value.toFixed(2);
}

/** Return the names of segments as they are shown, by name: "step 1" of "step1". */
export function titlesOf(report) {
  return new Map(report.segments.map(({ name, title }) => [name, title]));
}

/** Return the rows with each value of a column, as a map in the order in which the values occur. */
export function groupedBy(rows, column) {
  const groups = new Map();
  for (const row of rows) groups.set(row[column], [...(groups.get(row[column]) ?? []), row]);
  return groups;
}
