// Pinned and selected nodes. The last pin is the one that the panel shows.

/** Pin nodes by name; a node that is pinned already becomes the last pin. */
export function pin(app, file, ...names) {
  const others = app.store.file(file).pins.filter((name) => !names.includes(name));
  app.store.update(file, { pins: [...others, ...names] });
}

/** Pin a node, or unpin it where it is the last pin; return whether it is pinned now. */
export function togglePin(app, file, name) {
  const { pins } = app.store.file(file);
  if (pins.at(-1) !== name) {
    pin(app, file, name);
    return true;
  }
  app.store.update(file, { pins: pins.slice(0, -1) });
  return false;
}

/** Add a node to the selection, or take it out. */
export function toggleSelected(app, file, name) {
  const { selected } = app.store.file(file);
  app.store.update(file, { selected: selected.includes(name) ? selected.filter((each) => each !== name) : [...selected, name] });
}
