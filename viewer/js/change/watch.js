// Notice when a file is changed on disk by someone else, and when the server is stopped.

import { reloadFromDisk, SERVER } from "./save.js";

const PERIOD_MS = 5000;

/** Ask the server now and then, while the page is seen, and say each thing once. */
export function watchFiles(app, places) {
  const told = new Map(); // by number of the file: the version that was told
  let isToldStopped = false;
  const check = async () => {
    if (document.hidden) return;
    const { saves, isStopped } = app.server;
    try {
      const versions = await app.server.versions();
      isToldStopped = false;
      if (app.server.saves !== saves) return; // this page saved meanwhile
      versions.forEach((version, number) => {
        if (version === app.server.files[number].version || told.get(number) === version) return;
        told.set(number, version);
        tell(places, app.files[number].name, version);
      });
    } catch ({ message }) {
      if (!isStopped && !isToldStopped) places.toasts.show(`${message[0].toUpperCase()}${message.slice(1)}`, { tone: "bad", about: SERVER });
      isToldStopped = true;
    }
  };
  setInterval(check, PERIOD_MS);
  document.addEventListener("visibilitychange", check);
}

function tell(places, name, version) {
  if (version === null) places.toasts.show(`${name} is gone from the disk.`, { tone: "bad" });
  else places.toasts.show(`${name} was changed on disk.`, { tone: "bad", action: { title: "Reload without my changes", run: reloadFromDisk } });
}
