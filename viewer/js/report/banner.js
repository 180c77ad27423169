// The verdict above the circuit: what was found, in one look, and a button for each step.

import { h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { score } from "./format.js";
import { revealSpan } from "./reveal.js";
import { svgOf } from "./tree.js";

const SIGN_BOX = "18 4 94 76";
const MANY_STEPS = 4; // whose verdicts are not written out

/** Return the banner of a file's report; `open` shows the report. */
export function verdictBanner(app, file, open) {
  const report = file.extras.report;
  return h("section", { class: "verdict", "aria-label": "Verdict", dataset: { verdict: report.verdict } },
    h("button", { type: "button", class: "verdict-main", title: "Open the report", onclick: open },
      h("span", { class: "verdict-sign", "aria-hidden": "true" }, sign(report)),
      h("span", { class: "verdict-words" },
        h("strong", {}, report.verdict),
        h("span", { class: "verdict-sentence" }, report.sentence),
        h("span", { class: "verdict-reason", dir: "auto" }, report.reason),
      ),
      meter(report.score),
      h("span", { class: "verdict-more" }, "Report", icon("down")),
    ),
    report.steps.length > 0 && h("ol", { class: "verdict-steps", "aria-label": "Steps", dataset: { many: String(report.steps.length > MANY_STEPS) } }, ...report.steps.map((step) => h("li", {}, stepButton(app, file, step)))),
  );
}

function sign(report) {
  const picture = svgOf(report.sign);
  picture.setAttribute("viewBox", SIGN_BOX); // without its margin
  return picture;
}

/** Return a score on its scale from 0, the steps are idle, to 1, they decide. */
export function meter(value) {
  const label = value === null ? "no score" : `score ${score(value)}: 0, the steps are idle, to 1, they decide`;
  const fill = h("span", { class: "meter-fill" });
  fill.style.width = `${100 * Math.min(1, Math.max(0, value ?? 0))}%`;
  return h("span", { class: "meter", role: "img", "aria-label": label, title: label },
    h("span", { class: "meter-value" }, score(value)),
    h("span", { class: "meter-scale" }, fill),
  );
}

function stepButton(app, file, step) {
  return h("button", {
    type: "button",
    class: "step-chip",
    dataset: { confirmed: step.confirmed },
    title: `${step.tested}. Shows the step in the circuit.`,
    onclick: () => revealSpan(app, file, step),
  }, mark(step), h("span", {}, step.title), h("span", { class: "step-verdict" }, step.verdict));
}

/** Return the sign of a step: ✓, ✗ or ?, with its meaning. */
export function mark(step) {
  return h("span", { class: "mark", role: "img", "aria-label": step.meaning, title: step.meaning, dataset: { confirmed: step.confirmed } }, step.mark);
}
