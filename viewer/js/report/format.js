// Numbers of a report as text, and its rows in groups.

/** Return an effect with its sign and two decimals: "+1.28", "−0.79". */
export function logits(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

/** Return a share as the picture of a report writes it, without the decimals of ui/format.js: "26%", small ones as "<1%". */
export function share(value) {
  return value > 0 && value < 0.005 ? "<1%" : `${Math.round(100 * value)}%`;
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
