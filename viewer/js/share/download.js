// Files that the browser saves.

const KEPT_MS = 60_000; // until the address of a download is freed

/** Let the browser save a file; `content` is a text, bytes, or an array of both. */
export function download(name, content, type) {
  const url = URL.createObjectURL(new Blob(Array.isArray(content) ? content : [content], { type }));
  const link = document.createElement("a");
  [link.href, link.download] = [url, name];
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_MS);
}

/** Return the name of a file with another ending: hot.svg of folder/hot.arrow. */
export function nameWith(ending, name) {
  const stem = name.split(/[\\/]/).at(-1).replace(/\.(arrow|html|zst)/g, "");
  return `${stem || "circuit"}${ending}`;
}
