// The side panel: the tabs of the pins, and everything about what is shown of them.

import { h, replaceChildren } from "../ui/dom.js";
import { pin } from "../state/pins.js";
import { subjectOf } from "../state/subject.js";
import { subjectActions } from "./actions.js";
import { contextOf } from "./context.js";
import { edgeView } from "./edge_view.js";
import { groupOf, groupView, isGroupKey } from "./group_view.js";
import { nodeView } from "./node_view.js";
import { overview } from "./overview.js";
import { pinTable } from "./pin_table.js";
import { createSelection } from "./selection.js";
import { tabBar } from "./tabs.js";

/** The panel of the file that is looked at. */
export class Panel {
  #scroller;
  #tabs = h("div", { class: "panel-tabs" });
  #shown = null; // what was shown last, as text
  #view = null;
  #waits = false;

  /** Args: app; the element that scrolls, into which the panel goes. */
  constructor(app, scroller) {
    this.app = app;
    this.#scroller = scroller;
    this.body = h("div", { class: "panel-body", role: "group", tabindex: -1 });
    scroller.append(this.#tabs, this.body);
    this.reset();
  }

  /** Number of the file that is looked at. */
  get file() {
    return this.app.store.page.file;
  }

  /** Begin again with the pins of the file that is looked at. */
  reset() {
    this.selection = createSelection(this.app.store.file(this.file).pins);
    this.render();
  }

  /** Follow the pins of the state. */
  follow() {
    this.selection.follow(this.app.store.file(this.file).pins);
    this.render();
  }

  /** Change the selection by a function, and show what it shows then. */
  change(change) {
    change(this.selection);
    this.render();
  }

  /** Show a node or an edge by name, or the overview for null. */
  show(name) {
    this.change((selection) => selection.show(name));
  }

  /** Pin what is shown, or unpin it. */
  togglePin() {
    const name = this.selection.current;
    if (this.selection.isPinned(name)) this.unpin(name);
    else pin(this.app, this.file, name);
  }

  /** Unpin a node or an edge by name. */
  unpin(name) {
    this.app.store.update(this.file, { pins: this.app.store.file(this.file).pins.filter((each) => each !== name) });
  }

  /** Begin editing the label of the node that is shown. */
  edit() {
    this.#view.edit?.();
  }

  /** Build everything again; it stays where it is as long as it shows the same. */
  render() {
    const context = contextOf(this.app, this.file, (name) => this.#open(name));
    this.#view = this.#viewNow(context);
    const [before, top] = [this.#shown, this.#scroller.scrollTop];
    this.#shown = JSON.stringify([this.file, this.selection.isComparing, this.selection.current]);
    this.#keepFocus(() => {
      replaceChildren(this.#tabs, tabBar(context, this));
      replaceChildren(this.body, this.#view.element);
    });
    revealCurrent(this.#tabs);
    this.#scroller.scrollTop = this.#shown === before ? top : 0;
    this.app.commands.refresh();
  }

  /** Read the pruning again, at most once per frame: sliders ask more often. */
  update() {
    if (this.#waits) return;
    this.#waits = true;
    requestAnimationFrame(() => {
      this.#waits = false;
      this.#keepFocus(() => this.#view.update());
    });
  }

  /** Go to what was clicked on: a node in the circuit too. */
  #open(name) {
    const { graph } = this.app.files[this.file];
    const subject = isGroupKey(name) ? null : subjectOf(graph, name);
    if (subject?.node === undefined) this.show(name);
    else this.app.emit("focus", subject.node);
  }

  #viewNow(context) {
    const { current, isComparing } = this.selection;
    this.body.setAttribute("aria-label", isComparing ? "Pinned nodes" : (current ?? "Overview"));
    if (isComparing) return pinTable(context);
    const group = groupOf(context, current);
    if (group) return groupView(context, group, subjectActions(this, current));
    const subject = current === null ? null : subjectOf(context.graph, current);
    if (!subject) return overview(context);
    const actions = subjectActions(this, subject.name);
    return subject.node === undefined ? edgeView(context, subject, actions) : nodeView(context, subject.node, actions);
  }

  /** Change elements; a focus that goes with them comes to the control with the same key, or else to the body. */
  #keepFocus(change) {
    const inside = () => this.#scroller.contains(document.activeElement);
    const key = inside() ? (document.activeElement.dataset.key ?? "") : null;
    change();
    if (key === null || inside()) return;
    (this.#scroller.querySelector(`[data-key="${CSS.escape(key)}"]`) ?? this.body).focus({ preventScroll: true });
  }
}

/** Scroll the tabs, and only these, so that the present one is seen. */
function revealCurrent(tabs) {
  const [list, current] = [tabs.querySelector("ul"), tabs.querySelector(".current")];
  if (!current) return;
  const [outer, inner] = [list.getBoundingClientRect(), current.getBoundingClientRect()];
  if (inner.left < outer.left) list.scrollLeft += inner.left - outer.left;
  else if (inner.right > outer.right) list.scrollLeft += inner.right - outer.right;
}
