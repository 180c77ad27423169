// Parts of the page: text elements with base64 of gzip.

/** Return the text of an element of the page; throw if it is missing. */
export function textOf(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page lacks its part ${id}`);
  return element.textContent;
}

/** Return the bytes of a part; throw if it is missing or damaged. */
export async function partBytes(name) {
  const packed = textOf(`part-${name}`);
  try {
    const stream = new Blob([bytesOfBase64(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Error(`its part ${name} is damaged`); // what browsers say of it does not help
  }
}

/** Return the value of a part that is JSON. */
export async function partJson(name) {
  return JSON.parse(new TextDecoder().decode(await partBytes(name)));
}

function bytesOfBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}
