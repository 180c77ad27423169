// Changes that can be taken back, and made again. A change is {title, parts: [{file, values}]}: values before it.

const LONGEST_HISTORY = 500; // changes that can be undone

/** Return the history of a store. `swap(parts)` puts values into files and returns those that were there, as parts. */
export function createHistory(swap) {
  const past = [];
  const future = [];
  const move = (from, to) => {
    const change = from.pop();
    if (!change) return null;
    to.push({ ...change, parts: swap(change.parts) });
    return change.title;
  };
  return {
    /** Remember what was in files before a change; nothing for no parts. */
    remember(title, parts) {
      if (!parts.length) return;
      past.push({ title, parts });
      if (past.length > LONGEST_HISTORY) past.shift();
      future.length = 0;
    },
    undo: () => move(past, future),
    redo: () => move(future, past),
    undoTitle: () => past.at(-1)?.title ?? null,
    redoTitle: () => future.at(-1)?.title ?? null,
  };
}
