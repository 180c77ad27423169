// Workers from parts of the page: modules do not load from `file:`, and the policy allows workers from `blob:` only.

import { partBytes } from "./parts.js";
import { trustedUrl } from "./trusted.js";

const NAMES = ["worker-prune", "worker-paint"]; // parts, as WORKERS in viewer/page/html.py
const urls = new Map();

/** Read the scripts of all workers; `startWorker` needs them. */
export async function readWorkers() {
  await Promise.all(NAMES.map(async (name) => urls.set(name, URL.createObjectURL(new Blob([await partBytes(name)], { type: "text/javascript" })))));
}

/** Start the worker whose script is a part of the page, and return it. */
export function startWorker(name) {
  return new Worker(trustedUrl(urls.get(name)));
}
