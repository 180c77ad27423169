// One store of everything that a user can change. Every change goes through `update`.

import { createHistory } from "./history.js";
import { UNDOABLE } from "./state.js";

/**
 * Return a store. A state is one plain object `{page: {…}, files: [{…}, …]}`; parts are replaced, never changed in place.
 *
 *   store.file(0).pins            a value
 *   store.update(0, { pins }, "pin L17#264@5")      change values of file 0; the text names the change for undo
 *   store.updatePage({ theme: "dark" })
 *   store.load(state, "open the link")            another state as a whole, which undo takes back like a change
 *   store.subscribe(({ file, keys }) => …)           file is null for the page; returns a function that ends it
 */
export function createStore(initial) {
  let state = initial;
  const listeners = new Set();

  const tell = (file, keys) => [...listeners].forEach((listener) => listener({ file, keys }));
  const replace = (file, values) => {
    state = { ...state, files: state.files.map((old, at) => (at === file ? { ...old, ...values } : old)) };
    tell(file, Object.keys(values));
  };
  const updatePage = (values) => {
    state = { ...state, page: { ...state.page, ...values } };
    tell(null, Object.keys(values));
  };
  const history = createHistory((parts) => {
    const before = parts.map(({ file, values }) => ({ file, values: picked(state.files[file], Object.keys(values)) }));
    if (state.page.layout === "one" && parts.every(({ file }) => file !== state.page.file)) updatePage({ file: parts[0].file }); // a change that is seen
    parts.forEach(({ file, values }) => replace(file, values));
    return before;
  });

  return {
    get state() {
      return state;
    },
    get page() {
      return state.page;
    },
    file: (number) => state.files[number],
    update(file, values, title = "") {
      history.remember(title, partsOf(file, state.files[file], Object.keys(values)));
      replace(file, values);
    },
    updatePage,
    load(loaded, title = "") {
      history.remember(title, loaded.files.flatMap((values, file) => partsOf(file, state.files[file], differing(state.files[file], values))));
      state = loaded;
      tell(null, Object.keys(state.page));
      state.files.forEach((file, number) => tell(number, Object.keys(file)));
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    undo: history.undo,
    redo: history.redo,
    get undoTitle() {
      return history.undoTitle();
    },
    get redoTitle() {
      return history.redoTitle();
    },
  };
}

/** Return what a history keeps of a file before some of its keys change: a list of one part, or of none. */
function partsOf(file, values, changing) {
  const keys = changing.filter((key) => UNDOABLE.has(key));
  return keys.length ? [{ file, values: picked(values, keys) }] : [];
}

function differing(before, after) {
  return Object.keys(after).filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
}

function picked(values, keys) {
  return Object.fromEntries(keys.map((key) => [key, values[key]]));
}
