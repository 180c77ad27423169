// The source of a file's circuit: its state in the store, the last result of its pruner, and the events of the page.

import { withCollapsed, withExpanded } from "./columns.js";
import { togglePin } from "../state/pins.js";
import { graphModel } from "./model.js";

/** Return {graph, result} of what a file's circuit shows: the last pruning, before that the first picture of the page; null without either. */
export function shownOf(app, number) {
  const [{ graph, first }, result] = [app.files[number], app.results[number]];
  return result ? { graph, result } : first;
}

/** Return the source of the circuit of a file, as circuit.js describes it; `copied` is called with the name of a clicked node. */
export function fileSource(app, number, copied) {
  const state = () => app.store.file(number);
  return {
    model() {
      const { graph, result } = shownOf(app, number);
      return graphModel(graph, result, state(), { opened: new Set(state().opened.filter((name) => name.startsWith("group:")).map((name) => name.slice(6))) });
    },
    get: (key) => (key === "bands" ? app.bands[number] : state()[key]),
    set: (values, title) => app.store.update(number, values, title),
    hover: (item) => (item?.kind === "group" ? app.emit("hover-group", item.name) : app.emit("hover", item?.node ?? null)),
    focus(item) {
      if (item.kind === "group") app.emit("group", item.name);
      else if (item.node !== null) app.emit("focus", item.node);
    },
    pin(item) {
      if (item.kind === "group") {
        app.store.update(number, { selected: item.members });
        app.emit("group", item.name);
      } else if (togglePin(app, number, item.name)) copied(item.name);
    },
    open(item) {
      if (item.kind === "more") return toggle(item.name.slice("more:".length), `open ${item.name.slice("more:".length)}`);
      if (item.kind === "group") return toggle(item.name, `${item.isOpen ? "close" : "open"} group ${item.label}`);
      if (item.kind === "span") return app.store.update(number, { collapsed: withExpanded(state().collapsed, item.position) }, "expand positions");
      return app.store.update(number, { collapsed: withCollapsed(state().collapsed, item.position, item.position) }, `collapse position ${item.position}`);
    },
  };

  function toggle(name, title) {
    const { opened } = state();
    app.store.update(number, { opened: opened.includes(name) ? opened.filter((each) => each !== name) : [...opened, name] }, title);
  }
}
