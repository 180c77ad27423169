// Workers from texts of the page: modules do not load from `file:`, and the policy allows workers from `blob:` only.

import { trustedUrl } from "./trusted.js";

const urls = new Map();

/** Start the worker whose script is the text of an element, and return it. */
export function startWorker(id) {
  if (!urls.has(id)) urls.set(id, URL.createObjectURL(new Blob([document.getElementById(id).textContent], { type: "text/javascript" })));
  return new Worker(trustedUrl(urls.get(id)));
}
