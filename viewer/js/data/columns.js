// Columns of a record batch as arrays, without an object for each value: a graph has 10,000 rows.

/** Return the values of a column of numbers as an array of `Kind`, with `missing` for nulls. */
export function filled(data, missing, Kind) {
  const values = Kind.from(data.values);
  if (data.nullCount) for (let at = 0; at < values.length; at++) if (!isValid(data, at)) values[at] = missing;
  return values;
}

/** Return a column of booleans as 0 and 1. */
export function bits({ values, offset, length }) {
  return Uint8Array.from({ length }, (_, at) => bitOf(values, offset + at));
}

/** Return a column of texts as strings. All are decoded at once, since one call of the decoder takes longer than most texts. */
export function texts({ values, valueOffsets, length }) {
  const whole = new TextDecoder("utf-8", { ignoreBOM: true }).decode(values.subarray(valueOffsets[0], valueOffsets[length]));
  let [end, byte] = [0, valueOffsets[0]];
  return Array.from({ length }, (_, at) => {
    const start = end;
    for (; byte < valueOffsets[at + 1]; byte++) end += unitsOf(values[byte]);
    return whole.slice(start, end);
  });
}

/** Return the list of a row as a view of its values, null for none. */
export function listOf(data, row) {
  if (data.nullCount && !isValid(data, row)) return null;
  return data.children[0].values.subarray(Number(data.valueOffsets[row]), Number(data.valueOffsets[row + 1]));
}

function isValid({ nullBitmap, offset }, at) {
  return bitOf(nullBitmap, offset + at) === 1;
}

function bitOf(bytes, at) {
  return (bytes[at >> 3] >> (at & 7)) & 1;
}

/** Return how much longer a string gets by a byte of UTF-8: the first one of a character counts, for two where it needs four. */
function unitsOf(byte) {
  if ((byte & 0xc0) === 0x80) return 0;
  return byte >= 0xf0 ? 2 : 1;
}
