// Entries of a JSON object replaced in its text, so that all others stay as they are: 1.0 stays 1.0, and large integers exact.

/** Return the text of a JSON object with other values of some keys; undefined removes a key. */
export function withEntries(text, values) {
  const entries = new Map(entryTexts(text).map((entry) => [JSON.parse(/^\s*("(?:[^"\\]+|\\.)*")/.exec(entry)[1]), entry]));
  for (const [key, value] of Object.entries(values)) {
    entries.delete(key);
    if (value !== undefined) entries.set(key, `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  }
  return `{${[...entries.values()].join(",")}}`;
}

/** Return the texts of the entries of an object, such as `"name": [1, 2]`. */
function entryTexts(text) {
  const found = [];
  let [depth, start] = [0, text.indexOf("{") + 1];
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]+|\\.)*"|[{}[\],]/g)) {
    if (depth === 1 && (token === "," || token === "}")) {
      found.push(text.slice(start, index));
      start = index + 1;
    }
    if (token === "{" || token === "[") depth++;
    if (token === "}" || token === "]") depth--;
  }
  return found.filter((entry) => entry.trim());
}
