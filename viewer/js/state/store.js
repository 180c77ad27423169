// One store of everything that a user can change. Every change goes through `update`.

import { UNDOABLE } from "./state.js";

const LONGEST_HISTORY = 500; // changes that can be undone

/**
 * Return a store. A state is one plain object `{page: {…}, files: [{…}, …]}`; parts are replaced, never changed in place.
 *
 *   store.file(0).pins            a value
 *   store.update(0, { pins }, "pin L17#264@5")      change values of file 0; the text names the change for undo
 *   store.updatePage({ theme: "dark" })
 *   store.load(state)                             another state as a whole, such as that of a link; forgets the history
 *   store.subscribe(({ file, keys }) => …)           file is null for the page; returns a function that ends it
 */
export function createStore(initial) {
  let state = initial;
  const listeners = new Set();
  const past = [];
  const future = [];

  const tell = (file, keys) => [...listeners].forEach((listener) => listener({ file, keys }));
  const replace = (file, values) => {
    state = { ...state, files: state.files.map((old, at) => (at === file ? { ...old, ...values } : old)) };
    tell(file, Object.keys(values));
  };
  const swap = (from, to) => {
    const change = from.pop();
    if (!change) return null;
    const now = Object.fromEntries(Object.keys(change.values).map((key) => [key, state.files[change.file][key]]));
    to.push({ ...change, values: now });
    if (state.page.layout === "one" && change.file !== state.page.file) updatePage({ file: change.file }); // a change that is seen
    replace(change.file, change.values);
    return change.title;
  };

  const updatePage = (values) => {
    state = { ...state, page: { ...state.page, ...values } };
    tell(null, Object.keys(values));
  };

  return {
    get state() {
      return state;
    },
    get page() {
      return state.page;
    },
    file: (number) => state.files[number],
    update(file, values, title = "") {
      const undoable = Object.keys(values).filter((key) => UNDOABLE.has(key));
      if (undoable.length) {
        past.push({ file, title, values: Object.fromEntries(undoable.map((key) => [key, state.files[file][key]])) });
        if (past.length > LONGEST_HISTORY) past.shift();
        future.length = 0;
      }
      replace(file, values);
    },
    updatePage,
    load(loaded) {
      state = loaded;
      past.length = future.length = 0;
      tell(null, Object.keys(state.page));
      state.files.forEach((file, number) => tell(number, Object.keys(file)));
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    undo: () => swap(past, future),
    redo: () => swap(future, past),
    get undoTitle() {
      return past.at(-1)?.title ?? null;
    },
    get redoTitle() {
      return future.at(-1)?.title ?? null;
    },
  };
}
