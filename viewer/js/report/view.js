// The report of a transcript: picture, steps, ledger, links, evidence, cost and settings.

import { h } from "../ui/dom.js";
import { evidenceSection } from "./evidence.js";
import { ledgerSection } from "./ledger.js";
import { linksSection } from "./links.js";
import { foldedTable } from "./table.js";
import { transcriptSection } from "./transcript.js";
import { svgOf } from "./tree.js";

/** Return the report of a file. */
export function reportView(app, file) {
  const report = file.extras.report;
  return h("article", { class: "report", "aria-label": "Report", dataset: { verdict: report.verdict } },
    h("h2", { class: "visually-hidden" }, `${report.verdict}: ${report.sentence}`),
    h("div", { class: "report-column" }, pictureSection(report), ledgerSection(report)),
    h("div", { class: "report-column" }, transcriptSection(app, file), linksSection(report)),
    evidenceSection(app, file),
    factsSection(report),
  );
}

function pictureSection(report) {
  const picture = svgOf(report.picture);
  for (const size of ["width", "height"]) picture.removeAttribute(size);
  dimOthers(picture);
  return h("figure", { class: "report-part report-picture" }, picture);
}

/** While the pointer is on a band, dim the links that do not touch it. */
function dimOthers(picture) {
  const links = [...picture.querySelectorAll("[data-source]")];
  for (const band of picture.querySelectorAll("[data-segment]")) {
    const name = band.dataset.segment;
    const dim = (on) => links.forEach((link) => link.classList.toggle("dim", on && ![link.dataset.source, link.dataset.target].includes(name)));
    band.addEventListener("pointerenter", () => dim(true));
    band.addEventListener("pointerleave", () => dim(false));
  }
}

function factsSection(report) {
  const rows = (entries) => Object.entries(entries).map(([name, value]) => ({ name, value }));
  return h("section", { class: "report-part report-facts", "aria-label": "Cost and settings" },
    h("h3", {}, "Cost and settings"),
    h("p", {}, report.facts.join(" · ")),
    foldedTable("Cost in passes", rows({ ...report.cost, ...(report.live_score === null ? {} : { "score without edits": report.live_score }) })),
    foldedTable("Settings", rows(report.settings)),
  );
}
