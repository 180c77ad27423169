// The transcript, a line for each segment: what it states, and what was found about it.

import { h } from "../ui/dom.js";
import { mark, meter } from "./banner.js";
import { revealSpan } from "./reveal.js";
import { foldedTable } from "./table.js";

/** Return the list of segments with the verdicts of steps, and below it all columns. */
export function transcriptSection(app, file) {
  const { segments, steps, introductions } = file.extras.report;
  const byName = new Map(steps.map((step) => [step.step, step]));
  return h("section", { class: "report-part report-transcript", "aria-label": "Steps" },
    h("h3", {}, "Steps"),
    h("p", {}, introductions.steps),
    h("ol", { class: "transcript" }, ...segments.map((segment) => line(app, file, segment, byName.get(segment.name)))),
    steps.length > 0 && foldedTable("All columns of steps", steps, ["title", "tested", "mark", "meaning"]),
    foldedTable("All columns of segments", segments, ["title", "tested", "tone", "pieces"]),
  );
}

function line(app, file, segment, step) {
  const [before, value, after] = segment.pieces;
  return h("li", { class: "segment", dataset: { tone: segment.tone, segment: segment.name } },
    h("button", { type: "button", class: "segment-name", title: "Show it in the circuit", onclick: () => revealSpan(app, file, segment) },
      step && mark(step), segment.title),
    h("p", { class: "segment-text", dir: "auto" }, before, value && h("mark", { class: "stated-value" }, value), after),
    step ? verdictOf(step) : segment.tested && h("p", { class: "segment-tested" }, segment.tested),
  );
}

function verdictOf(step) {
  return h("div", { class: "segment-verdict" },
    h("strong", { dataset: { confirmed: step.confirmed } }, step.verdict),
    step.score === null ? null : meter(step.score),
    h("p", { class: "segment-tested", title: step.reason }, step.tested),
  );
}
