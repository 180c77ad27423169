// A row of the tab of groups, for a group or a suggestion.

import { influenceName, targetName } from "../circuit/strength.js";
import { labelOf } from "../data/labels.js";
import { visible } from "../data/visible.js";
import { h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";
import { counted, percent, signed } from "../ui/format.js";
import { expectedEffect, influenceShare, targetOf } from "./figures.js";
import { membersOf } from "./members.js";

/** Return a button; `key` finds it again after the rows were made anew. */
export function button(text, key, run, properties = {}) {
  return h("button", { type: "button", class: "quiet", dataset: { key }, onclick: run, ...properties }, text);
}

/** Return the row of a group; `view` is that of the list. */
export function groupRow(actions, view, group) {
  const members = membersOf(actions.file().graph, group);
  const isOpen = view.open.has(group.name);
  const title = groupTitle(actions, group);
  const head = view.editing === group.name
    ? nameField(actions, view, group)
    : [disclosure(view, group, isOpen), title, figures(actions, members), groupButtons(actions, view, group, members)];
  return h("li", { class: "group", onpointerenter: () => actions.light(group), onpointerleave: () => actions.light(null) },
    h("div", { class: "group-head" }, head),
    group.reason && h("p", { class: "group-reason muted" }, visible(group.reason)),
    isOpen && h("ul", { class: "group-members" }, members.map((node) => memberRow(actions, node))));
}

/** Return the name of a group, which shows it in the side panel. */
function groupTitle(actions, { name }) {
  return h("strong", { class: "group-title" }, button(visible(name), `show ${name}`, () => actions.show(name), { title: "Show it in the details" }));
}

/** Return the row of a suggestion. */
export function suggestionRow(actions, suggestion) {
  const { name, members, reason } = suggestion;
  const named = (verb) => ({ "aria-label": `${verb} ${name}` });
  return h("li", { class: "group" },
    h("div", { class: "group-head" }, groupTitle(actions, suggestion), figures(actions, members),
      h("span", { class: "group-buttons" },
        button("Select", `select ${name}`, () => actions.select(members), named("Select the nodes of")),
        button("Dismiss", `dismiss ${name}`, () => actions.dismiss([suggestion]), named("Dismiss")),
        button("Accept", `accept ${name}`, () => actions.accept([suggestion]), { class: null, ...named("Accept") }))),
    h("p", { class: "group-reason muted" }, visible(reason ?? "")));
}

function disclosure(view, group, isOpen) {
  const toggle = () => {
    view.open.delete(group.name) || view.open.add(group.name);
    view.render();
  };
  const properties = { class: "icon-button", "aria-expanded": String(isOpen), "aria-label": `Nodes of ${group.name}` };
  return button(icon("down"), `open ${group.name}`, toggle, properties);
}

function groupButtons(actions, view, group, members) {
  const free = actions.selected().filter((node) => !members.includes(node));
  const named = (verb) => ({ "aria-label": `${verb} ${group.name}` });
  return h("span", { class: "group-buttons" },
    free.length > 0 && button(`Add ${free.length}`, `add ${group.name}`, () => actions.add(group, free), named(`Add ${counted(free.length, "selected node")} to`)),
    members.length > 0 && button("Select", `select ${group.name}`, () => actions.select(members), named("Select the nodes of")),
    iconButton("edit", "Rename", group, () => view.editName(group)),
    iconButton("ungroup", "Ungroup", group, () => actions.ungroup([group])));
}

function iconButton(shape, verb, { name }, run) {
  return button(icon(shape), `${verb.toLowerCase()} ${name}`, run, { class: "icon-button", title: verb, "aria-label": `${verb} ${name}` });
}

function nameField(actions, view, group) {
  const problem = h("span", { class: "group-problem", role: "alert" });
  const finish = () => view.editName(null);
  const submit = (event) => {
    event.preventDefault();
    problem.textContent = actions.rename(group, field.value, finish);
  };
  const field = h("input", { class: "field", value: group.name, "aria-label": `New name of ${group.name}`, dataset: { key: `name ${group.name}` } });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    finish();
  });
  return h("form", { class: "group-form", onsubmit: submit }, field, h("button", { type: "submit" }, "Rename"), problem);
}

function memberRow(actions, node) {
  const { graph } = actions.file();
  const [name, label] = [graph.nameOf(node), labelOf(graph, node, actions.state().labels)];
  return h("li", {},
    button(name, `pin ${name}`, () => actions.pin(node), { class: "quiet mono", title: "Pin" }),
    h("span", { class: "group-label" }, visible(label?.text ?? "")),
    button(icon("close"), `remove ${name}`, () => actions.remove([node]), { class: "icon-button", "aria-label": `Take ${name} out of its group` }));
}

function figures(actions, members) {
  const { graph } = actions.file();
  const { target: chosen } = actions.state();
  const target = targetOf(graph, actions.state());
  const effect = expectedEffect(graph, members, target);
  if (!members.length) return h("span", { class: "group-figures faint" }, "all pruned");
  return h("span", { class: "group-figures faint" },
    h("span", {}, counted(members.length, "node")),
    h("span", { title: `Share of the ${influenceName(graph, chosen)} of all features` }, percent(influenceShare(graph, members, chosen))),
    effect !== null && h("span", { class: effect < 0 ? "negative" : "positive",
      title: `Expected change of ${targetName(graph, target)} when they are ablated` }, `if ablated ${signed(effect)}`));
}
