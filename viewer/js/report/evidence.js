// The interventions behind the verdict, each with the command that runs it again.

import { h, replaceChildren } from "../ui/dom.js";
import { copyText } from "../ui/clipboard.js";
import { icon } from "../ui/icons.js";
import { logits, titlesOf } from "./format.js";

const ALL = "all";

/** Return the table of interventions with a choice of what they test, or null without any. */
export function evidenceSection(app, file) {
  const { evidence, introductions } = file.extras.report;
  if (!evidence.length) return null;
  const titles = titlesOf(file.extras.report);
  const largest = Math.max(...evidence.map(({ effect }) => Math.abs(effect ?? 0))) || 1;
  const body = h("tbody");
  const show = (choice) => replaceChildren(body, ...evidence.filter((row) => matches(row, choice)).map((row) => rowOf(app, file, row, titles, largest)));
  show(ALL);
  return h("section", { class: "report-part report-evidence", "aria-label": "Evidence" },
    h("h3", {}, "Evidence"),
    h("p", {}, `${introductions.evidence} ${summary(evidence)}`),
    h("label", { class: "evidence-choice" }, "Show ", h("select", { "aria-label": "Interventions that are shown", onchange: ({ target }) => show(target.value) }, ...choices(evidence, titles))),
    h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Interventions" },
      h("table", { class: "evidence-table" },
        h("thead", {}, h("tr", {}, ...["Row", "Tests", "Intervention", "What was changed", "Answer", "Effect in logits", "Passes", "Copy"].map((name) => h("th", { scope: "col" }, name)))),
        body)),
  );
}

function summary(evidence) {
  const tests = evidence.filter((row) => !row.null);
  return `${tests.filter(({ moved }) => moved).length} of ${tests.length} moved the answer; of the null, ${evidence.filter((row) => row.null && row.moved).length} of ${evidence.length - tests.length}.`;
}

function choices(evidence, titles) {
  const tested = [...new Set(evidence.map(({ segment }) => segment))];
  const option = (value, words) => h("option", { value }, words);
  return [
    option(ALL, `all ${evidence.length} interventions`),
    option("moved", "those that moved the answer"),
    option("null", "the null"),
    ...tested.map((name) => option(`segment ${name ?? ""}`, name === null ? "those of the whole" : `those of ${titles.get(name) ?? name}`)),
    ...[...new Set(evidence.map(({ kind }) => kind))].map((kind) => option(`kind ${kind}`, kind)),
  ];
}

function matches(row, choice) {
  if (choice === "moved") return row.moved;
  if (choice === "null") return row.null;
  return choice === ALL || choice === `segment ${row.segment ?? ""}` || choice === `kind ${row.kind}`;
}

function rowOf(app, file, row, titles, largest) {
  const command = `cotrace compare --replay ${shellQuoted(file.name)} --row ${Number(row.number)}`; // no text of the file: people run it
  return h("tr", { dataset: { moved: String(row.moved) } },
    h("td", { class: "number" }, row.number),
    h("td", {}, row.segment === null ? "the whole" : (titles.get(row.segment) ?? row.segment), row.null && h("span", { class: "tag" }, "null")),
    h("td", { class: "evidence-kind" }, row.kind),
    h("td", { class: "long", dir: "auto" }, row.changed),
    h("td", { class: "evidence-answer", dir: "auto" }, h("span", { "aria-hidden": "true" }, row.moved ? "● " : "○ "), row.answer, h("span", { class: "quiet" }, row.moved ? " moved" : " stays")),
    h("td", {}, effectBar(row.effect, largest)),
    h("td", { class: "number" }, row.passes),
    h("td", {}, h("button", { type: "button", class: "icon-button", title: command, "aria-label": `Copy: ${command}`, onclick: () => copy(app, command) }, icon("copy"))),
  );
}

async function copy(app, command) {
  app.announce((await copyText(command)) ? `copied ${command}` : "the browser does not let this page copy");
}

/** Return a number with its bar: right of the middle if the answer lost margin, left if it gained. */
function effectBar(effect, largest) {
  if (effect === null) return "–";
  const fill = h("span", { class: "effect-fill", dataset: { sign: effect < 0 ? "negative" : "positive" } });
  fill.style.width = `${(50 * Math.abs(effect)) / largest}%`;
  return h("span", { class: "effect" }, h("span", { class: "effect-bar", "aria-hidden": "true" }, fill), h("span", { class: "number" }, logits(effect)));
}

/** Return a file's name as one word of a shell. */
function shellQuoted(name) {
  return /^[\w./+=:@%-]+$/.test(name) && !name.startsWith("-") ? name : `'${name.replaceAll("'", "'\\''")}'`;
}
