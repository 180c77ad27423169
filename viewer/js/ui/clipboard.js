// The clipboard, also where a page may not use its newer form.

/** Copy a text; return whether that worked. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedFromField(text);
  }
}

function copiedFromField(text) {
  const field = document.createElement("textarea");
  const before = document.activeElement;
  field.className = "visually-hidden";
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  before?.focus?.({ preventScroll: true });
  return isCopied;
}
