// Notice when a file is changed on disk by someone else, and when the server is stopped.

import { reloadFromDisk } from "./save.js";

const PERIOD_MS = 5000;
const STOPPED = "The server was stopped: start cotrace view again to save. Until then, save the page as a file.";

/** Ask the server now and then, while the page is seen, and say each thing once. */
export function watchFiles(app, places) {
  const told = new Map(); // by number of the file: the version that was told
  let isStopped = false;
  const check = async () => {
    if (document.hidden) return;
    const { saves } = app.server;
    try {
      const versions = await app.server.versions();
      isStopped = false;
      if (app.server.saves !== saves) return; // this page saved meanwhile
      versions.forEach((version, number) => {
        if (version === app.server.files[number].version || told.get(number) === version) return;
        told.set(number, version);
        tell(places, app.files[number].name, version);
      });
    } catch {
      if (!isStopped) places.toasts.show(STOPPED, { tone: "bad" });
      isStopped = true;
    }
  };
  setInterval(check, PERIOD_MS);
  document.addEventListener("visibilitychange", check);
}

function tell(places, name, version) {
  if (version === null) places.toasts.show(`${name} is gone from the disk.`, { tone: "bad" });
  else places.toasts.show(`${name} was changed on disk.`, { tone: "bad", action: { title: "Reload without my changes", run: reloadFromDisk } });
}
