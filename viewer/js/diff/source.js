// The source of a circuit of two graphs: what users do goes to the state of both files.

import { copyText } from "../ui/clipboard.js";
import { withCollapsed, withExpanded } from "../circuit/columns.js";
import { togglePin } from "../state/pins.js";
import { queryName } from "../state/subject.js";
import { SIDES } from "./comparison.js";
import { unionModel } from "./model.js";

/** Return what the circuits of a comparison share and no file holds: {moved, collapsed, opened, view}. */
export function sharedView() {
  return { moved: {}, collapsed: [], opened: [], view: null };
}

/**
 * Return the source of a circuit, as circuit/circuit.js describes it.
 *
 * Args: app, comparison; side, 0, 1 or null for both; shared of `sharedView`; on {changed, hovered}: called when
 * `shared` changed, and with the unit under the pointer or null.
 */
export function unionSource(app, comparison, side, shared, on) {
  const units = (names, each) => names.map((name) => comparison.keyOfName(name, each)).filter(Boolean);
  const ofBoth = (key) => [...new Set([0, 1].flatMap((each) => units(app.store.file(each)[key], each)))];
  const change = (values) => {
    Object.assign(shared, values);
    on.changed(Object.keys(values));
  };
  return {
    model: () => unionModel(comparison, side),
    get(key) {
      if (key === "pins" || key === "selected") return ofBoth(key);
      return key === "bands" ? bands(app, comparison, side ?? 0) : shared[key];
    },
    set(values) {
      const { pins, selected, ...others } = values;
      for (const each of [0, 1]) {
        const named = Object.fromEntries(Object.entries({ pins, selected }).filter(([, keys]) => keys).map(([key, keys]) => [key, namesIn(comparison, keys, each)]));
        if (Object.keys(named).length) app.store.update(each, named);
      }
      if (Object.keys(others).length) change(others);
    },
    hover: (item) => on.hovered(item && item.node !== null ? item.node : null),
    focus(item) {
      if (item.node !== null) app.announce(item.title);
    },
    pin: (item) => item.node !== null && pinUnit(app, comparison, item.node, side),
    open(item) {
      if (item.kind === "span") change({ collapsed: withExpanded(shared.collapsed, item.position) });
      else if (item.kind !== "more") change({ collapsed: withCollapsed(shared.collapsed, item.position, item.position) });
      else change({ opened: [...shared.opened, item.name.slice("more:".length)] });
    },
  };
}

/** Pin a unit in every graph that has it, or unpin it; the panel shows it in the graph of `side`, or in the first that has it. */
export async function pinUnit(app, comparison, unit, side = null) {
  const names = SIDES.map((_, each) => comparison.nameIn(unit, each));
  const file = side !== null && names[side] !== null ? side : names.findIndex((name) => name !== null);
  if (app.store.page.file !== file) app.store.updatePage({ file });
  const isPinned = togglePin(app, file, names[file]);
  const other = 1 - file;
  if (names[other] !== null) {
    const others = app.store.file(other).pins.filter((name) => name !== names[other]);
    app.store.update(other, { pins: isPinned ? [...others, names[other]] : others });
  }
  if (isPinned) app.announce((await copyText(queryName(app.files[file].graph, names[file]))) ? `pinned and copied ${names[file]}` : `pinned ${names[file]}`);
}

function namesIn(comparison, keys, side) {
  return keys.map((key) => comparison.nameIn(comparison.unitOfKey(key), side)).filter((name) => name !== null);
}

/** Return the bands of a file in the columns of both. */
function bands(app, comparison, side) {
  const columns = comparison.columnOf[side];
  return app.bands[side].map((band) => ({ ...band, first: columns[band.first], last: columns[band.last] }));
}
