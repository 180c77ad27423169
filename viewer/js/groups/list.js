// The tab of groups: the user's groups and the open suggestions, with their actions.

import { labelOf } from "../data/labels.js";
import { h, replaceChildren } from "../ui/dom.js";
import { count } from "./actions.js";
import { expectedEffect, influenceShare, percent, signed, targetOf } from "./figures.js";
import { membersOf } from "./members.js";

const SHOWN = 100; // suggestions, until the user asks for all

/** Return {element, render, editName}: the tab, a function that fills it again, and one that edits the name of a group. */
export function createList(app, actions, scores) {
  const element = h("div", { class: "groups" });
  const open = new Set(); // names of groups whose members are shown
  let editing = null; // name of the group that is being renamed
  let all = false;

  const render = () => {
    const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const [groups, suggestions] = [actions.state().groups, actions.suggestions()];
    replaceChildren(
      element,
      scores.element,
      section("Groups", groups.length, groupTools(groups), groups.map(groupRow), "Select nodes and press G to group them."),
      section("Suggestions", suggestions.length, suggestionTools(suggestions), shown(suggestions), "No open suggestions."),
    );
    if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  };
  const button = (text, key, run, properties = {}) => h("button", { type: "button", dataset: { key }, onclick: run, ...properties }, text);

  const groupTools = (groups) => groups.length > 1 && button("Ungroup all", "ungroup-all", () => actions.ungroup(groups));
  const suggestionTools = (suggestions) =>
    suggestions.length > 0 && [
      button("Accept all", "accept-all", () => actions.accept(suggestions)),
      button("Dismiss all", "dismiss-all", () => actions.dismiss(suggestions)),
    ];

  const groupRow = (group) => {
    const members = membersOf(actions.file().graph, group);
    const pruned = members.length ? [] : h("span", { class: "group-note" }, "all pruned");
    return h(
      "li",
      { class: "group" },
      h("div", { class: "group-head" }, disclosure(group), nameOf(group), figures(members), pruned, groupButtons(group, members)),
      group.reason && h("p", { class: "group-reason" }, group.reason),
      open.has(group.name) && h("ul", { class: "group-members" }, members.map(memberRow)),
    );
  };
  const disclosure = (group) => {
    const toggle = () => {
      open.delete(group.name) || open.add(group.name);
      render();
    };
    const expanded = open.has(group.name);
    return button(expanded ? "▾" : "▸", `open ${group.name}`, toggle, { "aria-expanded": String(expanded), "aria-label": `Members of ${group.name}` });
  };
  const nameOf = (group) => (editing === group.name ? nameField(group) : h("strong", { class: "group-name" }, group.name));
  const groupButtons = (group, members) => {
    const free = actions.selected().filter((node) => !members.includes(node));
    const label = (verb) => ({ "aria-label": `${verb} ${group.name}` });
    return h(
      "span",
      { class: "group-buttons" },
      members.length > 0 && button("Select", `select ${group.name}`, () => actions.select(members), label("Select the nodes of")),
      free.length > 0 && button(`Add ${count(free.length, "node")}`, `add ${group.name}`, () => actions.add(group, free), label("Add the selection to")),
      button("Rename", `rename ${group.name}`, () => editName(group), label("Rename")),
      button("Ungroup", `ungroup ${group.name}`, () => actions.ungroup([group]), label("Ungroup")),
    );
  };
  const nameField = (group) => {
    const problem = h("span", { class: "group-problem", role: "alert" });
    const finish = () => {
      editing = null;
      render();
      element.querySelector(`[data-key="${CSS.escape(`rename ${group.name}`)}"]`)?.focus();
    };
    const submit = (event) => {
      event.preventDefault();
      const text = actions.rename(group, field.value);
      problem.textContent = text;
      if (!text) finish();
    };
    const field = h("input", { value: group.name, "aria-label": `New name of ${group.name}`, dataset: { key: `name ${group.name}` } });
    field.addEventListener("keydown", (event) => event.key === "Escape" && (event.stopPropagation(), finish()));
    return h("form", { class: "group-form", onsubmit: submit }, field, h("button", { type: "submit" }, "Save"), problem);
  };
  const editName = (group) => {
    editing = group.name;
    render();
    element.querySelector(".group-form input")?.select();
  };

  const memberRow = (node) => {
    const { graph } = actions.file();
    const [name, label] = [graph.nameOf(node), labelOf(graph, node, actions.state().labels)];
    return h(
      "li",
      {},
      button(name, `pin ${name}`, () => actions.pin(node), { class: "node-link" }),
      label && h("span", { class: "group-label" }, label.text),
      button("×", `remove ${name}`, () => actions.remove([node]), { "aria-label": `Take ${name} out of its group` }),
    );
  };
  const suggestionRow = (suggestion) =>
    h(
      "li",
      { class: "group suggestion" },
      h(
        "div",
        { class: "group-head" },
        h("strong", { class: "group-name" }, suggestion.name),
        figures(suggestion.members),
        h(
          "span",
          { class: "group-buttons" },
          button("Accept", `accept ${suggestion.name}`, () => actions.accept([suggestion]), { class: "primary", "aria-label": `Accept ${suggestion.name}` }),
          button("Select", `select ${suggestion.name}`, () => actions.select(suggestion.members), { "aria-label": `Select the nodes of ${suggestion.name}` }),
          button("Dismiss", `dismiss ${suggestion.name}`, () => actions.dismiss([suggestion]), { "aria-label": `Dismiss ${suggestion.name}` }),
        ),
      ),
      h("p", { class: "group-reason" }, suggestion.reason),
    );
  const shown = (suggestions) => {
    const rows = suggestions.slice(0, all ? suggestions.length : SHOWN).map(suggestionRow);
    const showAll = () => {
      all = true;
      render();
    };
    return rows.length < suggestions.length ? [...rows, h("li", {}, button(`Show all ${suggestions.length}`, "all", showAll))] : rows;
  };

  const figures = (members) => {
    const { graph } = actions.file();
    const target = targetOf(graph, actions.state());
    const effect = expectedEffect(graph, members, target);
    return h(
      "span",
      { class: "group-figures" },
      h("span", {}, count(members.length, "node")),
      h("span", { title: "Share of the influence of all features" }, percent(influenceShare(graph, members))),
      effect !== null && h("span", { class: effect < 0 ? "negative" : "positive", title: `Expected change of ${graph.info.targets[target].label} when the group is ablated` }, `if ablated ${signed(effect)}`),
    );
  };

  return { element, render, editName };
}

function section(title, number, tools, rows, empty) {
  return h(
    "section",
    { class: "groups-section", "aria-label": title },
    h("header", {}, h("h3", {}, `${title} (${number})`), tools),
    rows.length ? h("ul", { class: "groups-list" }, rows) : h("p", { class: "group-reason" }, empty),
  );
}
