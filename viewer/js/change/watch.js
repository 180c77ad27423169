// Notice when a file is changed on disk by someone else.

import { reloadFromDisk } from "./save.js";

const PERIOD_MS = 5000;

/** Ask the server now and then, while the page is seen, and say once for each version that a file was changed. */
export function watchFiles(app, places) {
  const told = new Map();
  const check = async () => {
    if (document.hidden) return;
    const versions = await app.server.versions().catch(() => []);
    versions.forEach((version, number) => {
      if (version === app.server.files[number].version || told.get(number) === version) return;
      told.set(number, version);
      tell(places, app.files[number].name, version);
    });
  };
  setInterval(check, PERIOD_MS);
  document.addEventListener("visibilitychange", check);
}

function tell(places, name, version) {
  if (version === null) places.toasts.show(`${name} is gone from the disk.`, { tone: "bad" });
  else places.toasts.show(`${name} was changed on disk.`, { tone: "bad", action: { title: "Reload without my changes", run: reloadFromDisk } });
}
