// The search box of the header: nodes by name, label or token. Enter pins.

import { influenceName, nodeInfluence } from "../circuit/strength.js";
import { createSearch, textOfNode } from "../data/search.js";
import { visible } from "../data/visible.js";
import { pin } from "../state/pins.js";
import { h, replaceChildren } from "./dom.js";
import { count, percent } from "./format.js";
import { icon } from "./icons.js";
import { narrow } from "./narrow.js";
import { kindSign } from "./node.js";

const MOST_RESULTS = 40;
const MOVES = { ArrowDown: 1, ArrowUp: -1 };

/** The search box of the shown file. */
export class SearchBox {
  constructor(app) {
    Object.assign(this, { app, nodes: [], active: 0, search: null });
    this.list = h("ul", { id: "search-results", role: "listbox", "aria-label": "Nodes found" });
    this.note = h("p", { class: "search-note", role: "status" });
    this.results = h("div", { class: "search-results", hidden: true }, this.list, this.note);
    this.field = h("input", { type: "search", class: "field", "aria-label": "Find a node by name, label or token", role: "combobox",
      "aria-expanded": "false", "aria-controls": "search-results", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
      oninput: () => this.#fill(), onfocus: () => this.#fill(), onkeydown: (event) => this.#press(event) });
    this.element = h("div", { class: "search", role: "search" }, icon("search"), this.field, this.results);
    this.element.addEventListener("focusout", ({ relatedTarget }) => this.element.contains(relatedTarget) || this.#close());
    const hint = () => (this.field.placeholder = narrow.matches ? "Find" : "Find a node");
    narrow.addEventListener("change", hint);
    hint();
    app.commands.add({ id: "search", title: "Find a node", keys: ["/", "Mod+K"], group: "Page", run: () => (this.field.focus(), this.field.select()) });
  }

  #fill() {
    if (!this.field.value.trim()) return this.#close();
    const { nodes, total } = this.#searchOfFile().best(this.field.value, MOST_RESULTS);
    this.nodes = nodes;
    replaceChildren(this.list, nodes.map((node, at) => resultElement(this.app, node, at, () => this.#choose(node))));
    this.note.textContent = total === 0 ? "No node has this name, label or text" : total > nodes.length ? `The best ${nodes.length} of ${count(total)}` : "";
    this.results.hidden = false;
    this.field.setAttribute("aria-expanded", "true");
    return this.#activate(0);
  }

  /** Return the search of the shown file; it is made again when the file or its labels change. */
  #searchOfFile() {
    const { store, files } = this.app;
    const { graph } = files[store.page.file];
    const { labels } = store.file(store.page.file);
    if (this.search?.graph !== graph || this.search.labels !== labels) this.search = { graph, labels, ...createSearch(graph, labels) };
    return this.search;
  }

  #activate(at) {
    this.active = (at + this.nodes.length) % (this.nodes.length || 1);
    [...this.list.children].forEach((item, each) => item.setAttribute("aria-selected", String(each === this.active)));
    const item = this.list.children[this.active];
    if (!item) return this.field.removeAttribute("aria-activedescendant");
    this.field.setAttribute("aria-activedescendant", item.id);
    item.scrollIntoView({ block: "nearest" });
    return this.app.emit("hover", this.nodes[this.active]);
  }

  #press(event) {
    if (MOVES[event.key] && this.nodes.length) this.#activate(this.active + MOVES[event.key]);
    else if (event.key === "Enter" && !this.results.hidden) this.#choose(this.nodes[this.active]);
    else if (event.key === "Escape" && !this.results.hidden) this.#close();
    else return;
    event.preventDefault();
  }

  #choose(node) {
    if (node === undefined) return;
    const { name } = described(this.app, node);
    pin(this.app, this.app.store.page.file, name);
    this.app.emit("focus", node);
    this.app.announce(`Pinned ${name}`);
    this.field.select();
    this.#close();
  }

  #close() {
    if (this.results.hidden) return;
    this.results.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
    this.field.removeAttribute("aria-activedescendant");
    this.app.emit("hover", null);
  }
}

function described(app, node) {
  const { file } = app.store.page;
  const { graph } = app.files[file];
  return { graph, name: graph.nameOf(node), text: textOfNode(graph, node, app.store.file(file).labels), isShown: app.results[file]?.nodes[node] !== 0 };
}

function resultElement(app, node, at, onpick) {
  const { graph, name, text, isShown } = described(app, node);
  const { target } = app.store.file(app.store.page.file);
  return h("li", { id: `search-result-${at}`, role: "option", "aria-selected": "false", class: isShown ? null : "dim",
    onpointerdown: (event) => event.preventDefault(), onclick: onpick, title: isShown ? null : "hidden by the thresholds" },
  kindSign(graph, node), h("span", { class: "mono" }, name), h("bdi", { class: "search-text" }, visible(text)), h("span", { class: "number faint", title: influenceName(graph, target) }, percent(nodeInfluence(graph, target)[node])));
}
