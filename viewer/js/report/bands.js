// Bands behind the circuit: the segments of a transcript, or those that a graph names.

import { printable } from "../data/visible.js";

const TONES = { question: "text", step: "text" }; // a colour would say that it decides or is used

/** Return the bands of a file: [{first, last, name, tone}], tone as in css/report.css. */
export function bandsOf({ graph, extras }) {
  if (!extras.report) return namedSpans(graph.info.segments ?? {});
  const { segments, steps } = extras.report;
  const named = new Map(steps.map((step) => [step.step, `${step.mark} ${step.title}: ${step.verdict}`]));
  return segments
    .filter(({ first, last }) => first <= last)
    .map(({ name, role, title, first, last, tone }) => ({ first, last, tone: TONES[tone] ?? tone, name: role === "text" ? "" : (named.get(name) ?? title) }));
}

/** Return a band for each run of adjacent positions of a segment. */
function namedSpans(segments) {
  return Object.entries(segments).flatMap(([name, positions]) => runs([...positions].sort((a, b) => a - b)).map(([first, last]) => ({ first, last, name: printable(name), tone: "segment" })));
}

function runs(positions) {
  const found = [];
  for (const position of positions) {
    const last = found.at(-1);
    if (last && position === last[1] + 1) last[1] = position;
    else found.push([position, position]);
  }
  return found;
}
