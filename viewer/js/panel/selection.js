// Which of the pins, or which other node or edge, the panel shows. Names are as in the state; nothing here touches the document.

const LONGEST_PAST = 100;

/** Return the selection, with the pins that there are. */
export function createSelection(pins) {
  let order = [...pins]; // of the tabs: pins in the order in which they came
  let last = pins.at(-1) ?? null;
  let current = last;
  let isComparing = false;
  const past = [];

  const leave = (name) => {
    if (current !== null && current !== name) past.push(current);
    if (past.length > LONGEST_PAST) past.shift();
    current = name;
    isComparing = false;
  };
  return {
    get tabs() {
      return order;
    },
    /** The name that is shown; null for none. */
    get current() {
      return current;
    },
    get isComparing() {
      return isComparing && order.length > 1;
    },
    get canGoBack() {
      return past.length > 0;
    },
    isPinned: (name) => order.includes(name),
    show: leave,
    compare: () => (isComparing = true),
    back() {
      current = past.pop() ?? current;
      isComparing = false;
    },
    /** Show the tab that is `step` after the present one, around the ends. */
    step(step) {
      const at = order.indexOf(current);
      if (order.length) leave(order[(Math.max(at, step > 0 ? -1 : 0) + step + order.length) % order.length]);
    },
    /** Follow the pins of the state: show the last one if it came or moved there, or if what was shown is pinned no more. */
    follow(pins) {
      const wasPinned = order.includes(current);
      const fewer = pins.length < order.length;
      order = [...order.filter((name) => pins.includes(name)), ...pins.filter((name) => !order.includes(name))];
      const isNew = pins.length > 0 && pins.at(-1) !== last && !fewer;
      const wereSome = last !== null;
      last = pins.at(-1) ?? null;
      if ((wereSome && last === null) || isNew || (wasPinned && !order.includes(current))) leave(last);
    },
  };
}
