// Links between statements: what the text says against what the model uses.

import { h } from "../ui/dom.js";
import { groupedBy, share, titlesOf } from "./format.js";
import { foldedTable } from "./table.js";

const LEAST_NAMED = 0.16; // share of a source that is named in its cell; stated ones always are
const KINDS = {
  stated: "stated and used",
  unstated: "used, not stated",
  unused: "stated, not used",
  neither: "neither stated nor used",
};

/** Return for each statement a bar of the shares of its value, or null without links. */
export function linksSection(report) {
  if (!report.links.length) return null;
  const titles = titlesOf(report);
  const statements = groupedBy(report.links, "statement");
  return h("section", { class: "report-part report-links", "aria-label": "Links" },
    h("h3", {}, "Stated and internal links"),
    h("p", {}, report.introductions.links),
    h("ul", { class: "link-legend" }, ...Object.entries(KINDS).map(([kind, words]) => h("li", {}, h("span", { class: "swatch", dataset: { link: kind } }), words))),
    h("div", { class: "link-bars" }, ...[...statements].map(([name, links]) => statementBar(titles.get(name) ?? name, links, titles))),
    foldedTable("All links", report.links),
  );
}

function kindOf({ cited, used }) {
  if (used) return cited ? "stated" : "unstated";
  return cited ? "unused" : "neither";
}

function statementBar(title, links, titles) {
  return h("div", { class: "link-bar" },
    h("span", { class: "link-target" }, `${title} ←`),
    h("ul", { class: "link-cells", "aria-label": `Sources of ${title}` }, ...links.map((link) => cell(link, titles))));
}

function cell(link, titles) {
  const kind = kindOf(link);
  const source = titles.get(link.source) ?? link.source;
  const facts = [
    `${source}: ${share(link.share)} of its value`,
    KINDS[kind],
    link.rule && `cited by ${link.rule}`,
    link.null !== null && `${share(link.null)} from matched positions that it does not cite`,
  ].filter(Boolean).join(", ");
  const element = h("li", { class: "link-cell", title: facts, dataset: { link: kind } },
    h("span", { class: "visually-hidden" }, facts),
    (kind === "unused" || link.share >= LEAST_NAMED) && h("span", { "aria-hidden": "true" }, `${source} ${share(link.share)}`));
  element.style.flexGrow = Math.max(link.share, 0.004);
  return element;
}
