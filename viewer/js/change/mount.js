import { watchFiles } from "./watch.js";

/** Mount what needs the local server: edits of the model, and a look at files that change on disk. */
export function mountChange(app, places) {
  if (app.server) watchFiles(app, places);
}
