// Bytes through a stream that packs or unpacks them.

/**
 * Return bytes sent through a transform; throw for damaged ones, and for a result of more than `most` bytes.
 *
 * It takes no turn of the browser's event loop: those of a Blob or a Response would wait while the browser reads the file.
 */
export async function through(transform, bytes, most = Infinity) {
  const reader = streamOf(bytes).pipeThrough(transform).getReader();
  const parts = [];
  let size = 0;
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(next.value);
    size += next.value.length;
    if (size > most) throw new Error("too long");
  }
  return joined(parts, size);
}

function streamOf(bytes) {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(bytes);
      controller.close();
    },
  });
}

function joined(parts, size) {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
