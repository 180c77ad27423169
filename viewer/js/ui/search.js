// The search box of the header: nodes by name, label or token. Enter pins.

import { createSearch, textOfNode } from "../data/search.js";
import { visible } from "../data/visible.js";
import { pin } from "../state/pins.js";
import { h, replaceChildren } from "./dom.js";
import { count, percent } from "./format.js";
import { icon } from "./icons.js";
import { kindSign } from "./node.js";

const MOST_RESULTS = 40;
const MOVES = { ArrowDown: 1, ArrowUp: -1 };

/** Return the search box of the file that is looked at. */
export function createSearchBox(app) {
  const now = { nodes: [], active: 0, search: null };
  const list = h("ul", { id: "search-results", role: "listbox", "aria-label": "Nodes found" });
  const note = h("p", { class: "search-note", role: "status" });
  const results = h("div", { class: "search-results", hidden: true }, list, note);
  const field = h("input", { type: "search", class: "field", placeholder: "Find a node", "aria-label": "Find a node by name, label or token", role: "combobox",
    "aria-expanded": "false", "aria-controls": "search-results", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false" });

  const close = () => {
    results.hidden = true;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
    app.emit("hover", null);
  };
  const choose = (node) => {
    if (node === undefined) return;
    const { name } = nodeOf(app, node);
    pin(app, app.store.page.file, name);
    app.emit("focus", node);
    app.announce(`Pinned ${name}`);
    field.select();
    close();
  };
  const activate = (at) => {
    now.active = (at + now.nodes.length) % (now.nodes.length || 1);
    [...list.children].forEach((item, each) => item.setAttribute("aria-selected", String(each === now.active)));
    const item = list.children[now.active];
    if (!item) return field.removeAttribute("aria-activedescendant");
    field.setAttribute("aria-activedescendant", item.id);
    item.scrollIntoView({ block: "nearest" });
    return app.emit("hover", now.nodes[now.active]);
  };
  const fill = () => {
    if (!field.value.trim()) return close();
    const { nodes, total } = searchOf(app, now).best(field.value, MOST_RESULTS);
    now.nodes = nodes;
    replaceChildren(list, nodes.map((node, at) => resultElement(app, node, at, () => choose(node))));
    note.textContent = total === 0 ? "No node has this name, label or text" : total > nodes.length ? `The best ${nodes.length} of ${count(total)}` : "";
    results.hidden = false;
    field.setAttribute("aria-expanded", "true");
    return activate(0);
  };
  field.addEventListener("input", fill);
  field.addEventListener("focus", fill);
  field.addEventListener("keydown", (event) => {
    if (MOVES[event.key] && now.nodes.length) activate(now.active + MOVES[event.key]);
    else if (event.key === "Enter" && !results.hidden) choose(now.nodes[now.active]);
    else if (event.key === "Escape" && !results.hidden) close();
    else return;
    event.preventDefault();
  });
  const element = h("div", { class: "search", role: "search" }, icon("search"), field, results);
  element.addEventListener("focusout", ({ relatedTarget }) => element.contains(relatedTarget) || close());
  app.commands.add({ id: "search", title: "Find a node", keys: ["/", "Mod+K"], group: "Page", run: () => (field.focus(), field.select()) });
  return element;
}

/** Return the search of the file that is looked at; it is made again when the file or its labels change. */
function searchOf(app, now) {
  const { graph } = app.files[app.store.page.file];
  const { labels } = app.store.file(app.store.page.file);
  if (now.search?.graph !== graph || now.search.labels !== labels) now.search = { graph, labels, ...createSearch(graph, labels) };
  return now.search;
}

function nodeOf(app, node) {
  const { file } = app.store.page;
  const { graph } = app.files[file];
  return { graph, name: graph.nameOf(node), text: textOfNode(graph, node, app.store.file(file).labels), isShown: app.results[file]?.nodes[node] !== 0 };
}

function resultElement(app, node, at, onpick) {
  const { graph, name, text, isShown } = nodeOf(app, node);
  return h("li", { id: `search-result-${at}`, role: "option", "aria-selected": "false", class: isShown ? null : "dim",
    onpointerdown: (event) => event.preventDefault(), onclick: onpick, title: isShown ? null : "hidden by the thresholds" },
  kindSign(graph, node), h("span", { class: "mono" }, name), h("bdi", { class: "search-text" }, visible(text)), h("span", { class: "number faint" }, percent(graph.influence[node])));
}
