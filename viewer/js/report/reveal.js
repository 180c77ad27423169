// From a report to the circuit.

/** Show the positions of a segment or step in the circuit of its file. */
export function revealSpan(app, file, { first, last, title }) {
  if (app.store.page.file !== file.number) app.store.updatePage({ file: file.number });
  app.circuit?.showSpan(first, last);
  app.announce(`${title}: positions ${first} to ${last}`);
}
