// Pointers and wheel on a circuit: pan, zoom, pinch, drag a node, draw a frame, click.

const SLOP = 4; // pixels before a press becomes a drag
const SOON = 400; // milliseconds between the clicks of a double click
const NEAR = { touch: 24 }; // pixels, by the kind of pointer; of others 8
const WHEEL = { 0: 0.0022, 1: 0.045, 2: 0.5 }; // zoom per unit, by the event's deltaMode

/**
 * Listen to an element, and return a function that ends it. Handlers get pixels from the element's left upper corner:
 *
 *   hover(x, y) or hover(null)    pan(dx, dy)    zoom(factor, x, y)
 *   click(x, y, event)    double(x, y) in place of the second click
 *   grab(x, y) returns what can be dragged, or null    drag(what, dx, dy)    drop(what)
 *   frame([left, top, right, bottom], isDone)    with Shift, from an empty place
 */
export function listenToGestures(element, handlers) {
  const pointers = new Map();
  const controller = new AbortController();
  let [press, mode, held] = [null, null, null];
  let clicked = { time: -Infinity, place: [0, 0] };
  const at = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const on = (name, listener, options = {}) => element.addEventListener(name, listener, { signal: controller.signal, ...options });

  on("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, at(event));
    if (pointers.size > 1) mode = "pinch";
    else [press, mode, held] = [{ start: at(event), last: at(event), event }, "press", null];
  });

  on("pointermove", (event) => {
    const place = at(event);
    if (event.buttons === 0) release(event); // outside of the element, unseen
    if (!pointers.has(event.pointerId)) return event.pointerType === "touch" ? undefined : handlers.hover(...place);
    if (mode === "pinch") pinch(event.pointerId, place);
    else move(event, place);
    pointers.set(event.pointerId, place);
    return undefined;
  });

  function move(event, [x, y]) {
    const [startX, startY] = press.start;
    if (mode === "press") {
      if (Math.hypot(x - startX, y - startY) < SLOP) return;
      element.setPointerCapture(event.pointerId);
      mode = begin(event);
    }
    const [dx, dy] = [x - press.last[0], y - press.last[1]];
    press.last = [x, y];
    if (mode === "pan") handlers.pan(dx, dy);
    if (mode === "drag") handlers.drag(held, dx, dy);
    if (mode === "frame") handlers.frame(rectangle(press.start, [x, y]), false);
  }

  function begin(event) {
    if (event.pointerType === "touch") return "pan";
    held = handlers.grab(...press.start);
    if (held !== null && !event.shiftKey) return "drag";
    if (event.shiftKey) return "frame";
    element.dataset.panning = "true";
    return "pan";
  }

  function pinch(id, place) {
    const fixed = [...pointers].find(([each]) => each !== id)[1];
    const old = pointers.get(id);
    const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    handlers.zoom(distance(place, fixed) / distance(old, fixed), (place[0] + fixed[0]) / 2, (place[1] + fixed[1]) / 2);
    handlers.pan((place[0] - old[0]) / 2, (place[1] - old[1]) / 2);
  }

  function click() {
    const { start, event } = press;
    const distance = Math.hypot(start[0] - clicked.place[0], start[1] - clicked.place[1]);
    const isSecond = !event.shiftKey && event.timeStamp - clicked.time < SOON && distance < (NEAR[event.pointerType] ?? 8);
    clicked = { time: isSecond || event.shiftKey ? -Infinity : event.timeStamp, place: start };
    if (isSecond) handlers.double(...start);
    else handlers.click(...start, event);
  }

  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (event.type === "pointerup" && mode === "press") click();
    if (mode === "drag") handlers.drop(held);
    if (mode === "frame") handlers.frame(rectangle(press.start, press.last), true);
    element.dataset.panning = "false";
    if (!pointers.size) mode = null;
    else if (mode === "pinch" && pointers.size === 1) [mode, press.last] = ["pan", [...pointers.values()][0]]; // one finger is left
  };
  on("pointerup", release);
  on("pointercancel", release);
  on("pointerleave", () => mode === null && handlers.hover(null));
  on("wheel", (event) => {
    event.preventDefault();
    if (event.shiftKey) handlers.pan(-(event.deltaX || event.deltaY), 0);
    else handlers.zoom(Math.exp(-event.deltaY * WHEEL[event.deltaMode] * (event.ctrlKey ? 4 : 1)), ...at(event));
  }, { passive: false });
  return () => controller.abort();
}

function rectangle([x1, y1], [x2, y2]) {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}
