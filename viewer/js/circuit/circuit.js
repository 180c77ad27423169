// A circuit that can be looked at: draws the model of a source, and tells the source what a user does with it.

import { endsOf, joinedName } from "../state/subject.js";
import { h } from "../ui/dom.js";
import { edgeAt, itemAt, itemsIn, neighbourOf } from "./find.js";
import { createFocus } from "./focus.js";
import { listenToGestures } from "./gestures.js";
import { layoutOf } from "./layout.js";
import { adjacencyOf, litOf } from "./lit.js";
import { sceneOf } from "./scene.js";
import { FONT } from "./sizes.js";
import { createSurface } from "./surface.js";
import { svgText } from "./svg.js";
import { betweenViews, extent, fittingView, keptView, pannedView, projection, sameView, zoomedView } from "./view.js";

const LEAST_SPAN = 0.3; // part of the circuit's width that is seen of a span
const STEP = 1.4; // of zooming by keys
const MOVE_MS = 220;
const [EDGE, MARGIN] = [4, 60]; // pixels from an edge at which a node is out of sight, and to which it moves
const STRONG_EDGES = 300; // that can be clicked before a node lights up others
const SETTLED_MS = 160; // after the last movement, the view goes to the source

/**
 * Put a circuit into an element and return it. Several can live on one page.
 *
 * What it shows and where changes go is its source, {model, get, set, hover, pin, focus, open}:
 *
 *   model()                the nodes, edges and columns, as in model.js
 *   get(key)               pins, selected, moved, collapsed, opened, view, bands of the state (see state/state.js); undefined for a
 *                          key that the source lacks. Names are those of the model's nodes
 *   set(values, title)     a user changed them; the source calls `refresh` if what it shows is another
 *   hover(item or null), focus(item), pin(item), open(item)
 *                          a user points at, moves to, clicks or double-clicks an item: a node of the model, or what stands for
 *                          several: {name, node, kind, …, members}; pin also gets {kind: "edge", name: "source -> target"}
 *
 * The circuit is:
 *
 *   refresh()              draw what the source has now, with a new layout
 *   relight()              pins or the selection changed
 *   follow()               the view of the source changed
 *   restyle()              read the colours again
 *   view, setView(view), onView(listener)
 *                          {x, y, scale}; a listener gets every view that the user chooses, to link circuits
 *   fit(), zoom(factor), pan(dx, dy), show(name), showSpan(first, last)
 *                          show moves to a node, showSpan to the columns of some positions
 *   hover(name or null)    light up a node, as if pointed at, without telling the source
 *   focus(name)            give a node the keyboard
 *   openFocused()          open or close the node that has the keyboard, as a double click does
 *   rectOf(name)           DOMRect of a node in the window, or null
 *   svg({isWhole})         what is seen, or all, as text of an SVG file
 *   settled()              promise: the picture is that of the last change
 *   model, scene, lit (names of the items that are lit), destroy()
 */
export function createCircuit(app, element, source) {
  element.classList.add("circuit-view");
  const surface = createSurface(element);
  const lasso = h("div", { class: "circuit-lasso", hidden: true });
  const focus = createFocus({ first: focusFirst, move: focusNext, pin: () => act(focused), select: () => toggleSelected(focused), leave: () => light() });
  surface.element.append(lasso, focus.element);
  const ruler = new OffscreenCanvas(1, 1).getContext("2d");
  const listeners = new Set();
  let [model, layout, scene, adjacency, lit, view] = [null, null, null, new Map(), null, null];
  let numbers = new Map(); // items by name
  let [hovered, focused, animation, pointing, timer] = [-1, -1, 0, 0, 0];

  // --- drawing ---------------------------------------------------------------------------------

  function measure(text) {
    ruler.font = `${FONT}px ${surface.style.font}`;
    return ruler.measureText(text).width;
  }

  function refresh() {
    measureSize();
    const names = [hovered, focused].map((item) => layout?.items[item]?.name);
    model = source.model();
    layout = layoutOf(model, {
      ...surface.size, collapsed: source.get("collapsed") ?? [], moved: source.get("moved") ?? {}, opened: new Set(source.get("opened") ?? []),
      kept: new Set([...(source.get("pins") ?? []), ...(source.get("selected") ?? [])]), measure,
    });
    numbers = numbersByName(layout.items);
    [hovered, focused] = names.map(shownItem);
    redraw();
    view = source.get("view") ?? fittingView(scene.bounds, surface.size);
    moved();
  }

  function redraw() {
    scene = sceneOf(model, layout, source.get("bands") ?? []);
    adjacency = adjacencyOf(scene);
    surface.setScene(scene);
    light();
  }

  function light() {
    const isFocused = focused >= 0 && focus.element.matches(":focus-visible");
    const names = (source.get("pins") ?? []).map(endsOf);
    lit = litOf(scene, adjacency, {
      hovered: hovered >= 0 || !isFocused ? hovered : focused,
      pinned: itemsOf(names.filter((ends) => ends.length === 1).flat()),
      selected: itemsOf(source.get("selected") ?? []),
      edges: names.filter((ends) => ends.length === 2).flatMap(([from, to]) => edgesBetween(shownItem(from), shownItem(to))),
    });
    surface.setLit(lit);
  }

  function itemsOf(names) {
    return names.map(shownItem).filter((item) => item >= 0);
  }

  function edgesBetween(from, to) {
    return (adjacency.get(from) ?? []).filter((edge) => scene.edges.from[edge] === from && scene.edges.to[edge] === to);
  }

  /** Return the item that stands for a node, or -1. */
  function shownItem(name) {
    return layout.host[numbers.get(name)] ?? -1;
  }

  // --- the view --------------------------------------------------------------------------------

  function picture() {
    return { view, ...surface.size };
  }

  function moved() {
    surface.setView(view);
    if (focused >= 0) focus.place(boxOf(focused));
  }

  function setView(next, { isTold = false } = {}) {
    cancelAnimationFrame(animation);
    view = keptView(next, scene.bounds);
    moved();
    if (!isTold) return;
    listeners.forEach((listener) => listener(view));
    clearTimeout(timer);
    timer = setTimeout(() => source.set({ view }), SETTLED_MS);
  }

  function moveTo(next, { isFit = false } = {}) {
    const [from, start] = [view, performance.now()];
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = () => {
      const share = isStill ? 1 : Math.min(1, (performance.now() - start) / MOVE_MS);
      setView(betweenViews(from, next, 1 - (1 - share) ** 3), { isTold: true });
      if (share < 1) animation = requestAnimationFrame(step);
      else if (isFit) {
        clearTimeout(timer);
        source.set({ view: null });
      }
    };
    step();
  }

  /** Move so that an item is seen, well inside the picture. */
  function reveal(item) {
    const [left, top, right, bottom] = boxOf(item);
    const { width, height } = surface.size;
    const [dx, dy] = [outside(left, right, width), outside(top, bottom, height)];
    if (dx || dy) moveTo(pannedView(view, dx, dy));
  }

  function boxOf(item) {
    const place = projection(view, surface.size);
    const form = layout.items[item].isOpen ? "frame" : "";
    const [w, h] = extent({ form, w: layout.w[item], h: layout.h[item], room: layout.room[item] }, place);
    const [x, y] = [place.px(layout.x[item]), place.py(layout.y[item])];
    return [x - w, y - h, x + w, y + h];
  }

  // --- what a user does ------------------------------------------------------------------------

  function setHovered(item) {
    surface.element.dataset.over = String(item >= 0);
    if (item === hovered) return;
    hovered = item;
    light();
    source.hover(layout.items[item] ?? null);
  }

  function act(item) {
    const what = layout.items[item];
    if (!what) return;
    if (what.kind === "more" || what.kind === "span") source.open(what);
    else source.pin(what);
  }

  /** Pin an edge that is lit, or a strong one; return whether there was one. */
  function actOnEdge(x, y) {
    const count = scene.edges.key.length;
    const edges = lit?.dim ? lit.edges : Array.from({ length: Math.min(count, STRONG_EDGES) }, (_, at) => count - Math.min(count, STRONG_EDGES) + at);
    const edge = edgeAt(scene, picture(), x, y, edges);
    if (edge < 0) return false;
    const [from, to] = [scene.edges.from[edge], scene.edges.to[edge]].map((item) => layout.items[item]);
    if (from.node === null || to.node === null) return false;
    source.pin({ kind: "edge", name: joinedName(from.name, to.name), node: null });
    return true;
  }

  function toggleSelected(item) {
    const selected = source.get("selected") ?? [];
    const names = namesOf(item);
    const isSelected = names.every((name) => selected.includes(name));
    source.set({ selected: isSelected ? selected.filter((name) => !names.includes(name)) : [...new Set([...selected, ...names])] });
  }

  function namesOf(item) {
    const { name, members } = layout.items[item];
    return members ?? [name];
  }

  function focusFirst() {
    const first = layout.items.findIndex((item) => item.kind === "logit"); // the likeliest target
    if (focused < 0 && layout.items.length) setFocused(Math.max(0, first));
    else light();
  }

  function focusNext(key) {
    const next = neighbourOf(scene, focused, key);
    if (next >= 0) setFocused(next);
  }

  function setFocused(item) {
    [focused, hovered] = [item, -1];
    focus.place(boxOf(item));
    focus.label(layout.items[item].title, (source.get("pins") ?? []).includes(layout.items[item].name));
    reveal(item);
    light();
    source.focus(layout.items[item]);
  }

  const stop = listenToGestures(surface.element, {
    hover(x, y) {
      cancelAnimationFrame(pointing);
      pointing = requestAnimationFrame(() => setHovered(x === null ? -1 : itemAt(scene, picture(), x, y)));
    },
    pan: (dx, dy) => setView(pannedView(view, dx, dy), { isTold: true }),
    zoom: (factor, x, y) => setView(zoomedView(view, factor, fromCentre(x, y, surface.size)), { isTold: true }),
    end: () => {},
    click(x, y, event) {
      const item = itemAt(scene, picture(), x, y, event.pointerType === "touch" ? 16 : undefined);
      if (item < 0) actOnEdge(x, y) || source.set({ pins: [], selected: [] });
      else if (event.shiftKey) toggleSelected(item);
      else act(item);
    },
    double(x, y) {
      const item = itemAt(scene, picture(), x, y);
      if (item >= 0) source.open(layout.items[item]);
      else moveTo(zoomedView(view, STEP ** 2, fromCentre(x, y, surface.size)));
    },
    grab: (x, y) => itemAt(scene, picture(), x, y),
    drag(item, dx, dy) {
      layout.x[item] += dx / view.scale;
      layout.y[item] += dy / view.scale;
      const shape = scene.shapes.find((each) => each.at === item);
      [shape.x, shape.y] = [layout.x[item], layout.y[item]];
      hovered = item;
      light();
    },
    drop(item) {
      const { name, title } = layout.items[item];
      const start = layoutStart(item);
      source.set({ moved: { ...source.get("moved"), [name]: [layout.x[item] - start[0], layout.y[item] - start[1]] } }, `move ${title}`);
    },
    frame([left, top, right, bottom], isDone) {
      lasso.hidden = isDone;
      lasso.style.transform = `translate(${left}px, ${top}px)`;
      lasso.style.width = `${right - left}px`;
      lasso.style.height = `${bottom - top}px`;
      if (!isDone) return;
      const names = itemsIn(scene, picture(), [left, top, right, bottom]).flatMap(namesOf);
      source.set({ selected: [...new Set([...(source.get("selected") ?? []), ...names])] });
    },
  });

  /** Return where the layout puts an item without its offset. */
  function layoutStart(item) {
    return [layout.startX[item], layout.startY[item]];
  }

  /** Take the size of the element; return whether it is another. */
  function measureSize() {
    const { width, height } = element.getBoundingClientRect();
    if (!width || !height || (width === surface.size.width && height === surface.size.height)) return false;
    surface.resize(width, height);
    return true;
  }

  let resizing = 0;
  const observer = new ResizeObserver(() => {
    if (!measureSize() || !layout) return;
    clearTimeout(resizing); // a layout takes time, which a user who drags an edge of the page has not
    resizing = setTimeout(refresh, SETTLED_MS);
  });
  observer.observe(element);

  return {
    refresh,
    relight: () => scene && light(),
    restyle: () => surface.restyle(),
    get view() {
      return view;
    },
    get model() {
      return model;
    },
    get scene() {
      return scene;
    },
    get lit() {
      return lit ? lit.shapes.map(({ at }) => layout.items[at].name) : [];
    },
    setView: (next) => setView(next),
    follow() {
      const wanted = source.get("view") ?? fittingView(scene.bounds, surface.size);
      if (!sameView(wanted, view)) setView(wanted);
    },
    onView(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    fit: () => moveTo(fittingView(scene.bounds, surface.size), { isFit: true }),
    zoom: (factor) => moveTo(zoomedView(view, factor)),
    pan: (dx, dy) => moveTo(pannedView(view, dx, dy)),
    showSpan(first, last) {
      const span = spanBounds(scene, first, last);
      if (span) moveTo(fittingView(span, surface.size));
    },
    show(name) {
      const item = shownItem(name);
      if (item >= 0) reveal(item);
    },
    hover(name) {
      const item = name === null ? -1 : shownItem(name);
      if (item === hovered) return;
      hovered = item;
      light();
    },
    focus(name) {
      const item = shownItem(name);
      if (item < 0) return;
      setFocused(item);
      focus.element.focus({ preventScroll: true });
    },
    openFocused: () => focused >= 0 && source.open(layout.items[focused]),
    rectOf(name) {
      const item = shownItem(name);
      if (item < 0) return null;
      const [left, top, right, bottom] = boxOf(item);
      const box = surface.element.getBoundingClientRect();
      return new DOMRect(box.left + left, box.top + top, right - left, bottom - top);
    },
    svg: ({ isWhole = false } = {}) => svgText(scene, isWhole ? wholePicture(scene.bounds) : picture(), surface.style, measure),
    settled: () => surface.painted(),
    destroy() {
      stop();
      clearTimeout(timer);
      clearTimeout(resizing);
      cancelAnimationFrame(animation);
      cancelAnimationFrame(pointing);
      observer.disconnect();
      surface.destroy();
    },
  };
}

/** Return the numbers of items by name; a member of a closed group has that of the group. */
function numbersByName(items) {
  const members = items.flatMap((item, at) => (item.kind === "group" ? item.members.map((name) => [name, at]) : []));
  return new Map([...members, ...items.map((item, at) => [item.name, at])]);
}

function fromCentre(x, y, { width, height }) {
  return [x - width / 2, y - height / 2];
}

/** Return the pixels by which an interval must move to be well inside of a side, 0 if it is inside. */
function outside(low, high, side) {
  const margin = Math.min(MARGIN, side / 6);
  if (low < EDGE) return margin - low;
  return high > side - EDGE ? side - margin - high : 0;
}

/** Return the bounds of the columns of some positions, wide enough to see what is beside them; null where there are none. */
function spanBounds({ columns, bounds }, first, last) {
  const inside = columns.filter((column) => column.last >= first && column.first <= last);
  if (!inside.length) return null;
  const [left, right] = [inside[0].left, inside.at(-1).right];
  const margin = Math.max(0, (bounds.right - bounds.left) * LEAST_SPAN - (right - left)) / 2;
  return { ...bounds, left: left - margin, right: right + margin };
}

function wholePicture(bounds) {
  const [width, height] = [bounds.right - bounds.left + 40, bounds.bottom - bounds.top + 40];
  return { width, height, view: { x: (bounds.left + bounds.right) / 2, y: (bounds.top + bounds.bottom) / 2, scale: 1 } };
}
