// The clipboard, also where a browser keeps it from files.

import { h } from "../ui/dom.js";

/** Copy a text and say so. */
export async function copyText(app, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyFromField(text);
  }
  app.announce(`copied ${text}`);
}

function copyFromField(text) {
  const field = h("textarea", { class: "visually-hidden" });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
