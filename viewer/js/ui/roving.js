// One stop of the Tab key for a group of controls; arrow keys move inside of it.

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** Make the controls of `container` one stop of the Tab key. Call the result after they have changed. */
export function roving(container, selector = "button") {
  const all = () => [...container.querySelectorAll(selector)];
  const items = () => all().filter((item) => item === document.activeElement || !isDisabled(item));
  const hold = (current) => all().forEach((item) => (item.tabIndex = item === current ? 0 : -1));
  const refresh = () => hold(items().find((item) => item.tabIndex === 0) ?? items()[0]);
  container.addEventListener("focusin", ({ target }) => items().includes(target) && hold(target));
  container.addEventListener("keydown", (event) => {
    const next = nextItem(items(), event);
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  refresh();
  return refresh;
}

function isDisabled(item) {
  return item.disabled || item.getAttribute("aria-disabled") === "true";
}

function nextItem(items, { key, target }) {
  const at = items.indexOf(target);
  if (at < 0) return null;
  if (key === "Home") return items[0];
  if (key === "End") return items.at(-1);
  return STEPS[key] ? items[(at + STEPS[key] + items.length) % items.length] : null;
}
