// The policy by which the page hands over texts of its own as scripts or markup. Nothing else may, and no text of a file goes through it.

let policy = null;

/** Return the URL of a worker whose script is a text of the page. */
export function trustedUrl(url) {
  return pagePolicy()?.createScriptURL(url) ?? url;
}

/** Return an SVG element of a text that the page's own writer of SVG made, which escapes all texts of files. */
export function svgElement(text) {
  const markup = pagePolicy()?.createHTML(text) ?? text;
  return document.importNode(new DOMParser().parseFromString(markup, "image/svg+xml").documentElement, true);
}

function pagePolicy() {
  const same = (text) => text;
  return (policy ??= globalThis.trustedTypes?.createPolicy("cotrace", { createScriptURL: same, createHTML: same }) ?? null);
}
