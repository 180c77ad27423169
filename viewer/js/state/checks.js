// Values from links and saved pages, which anyone can write: each function returns a valid value, or undefined for none.

/** Return a function that returns a number inside an interval, clamped to it. */
export function between(low, high) {
  return (value) => (Number.isFinite(value) ? Math.min(Math.max(value, low), high) : undefined);
}

/** Return a function that returns one of some values. */
export function oneOf(...values) {
  return (value) => (values.includes(value) ? value : undefined);
}

/** Return a function that returns a whole number from 0 to `stop` - 1, or null. */
export function indexBelow(stop) {
  return (value) => (value === null || (Number.isInteger(value) && value >= 0 && value < stop) ? value : undefined);
}

/** Return true or false. */
export const flag = oneOf(true, false);

/** Return a text of valid Unicode with at most `longest` characters. */
export function textUpTo(longest) {
  return (value) => (typeof value === "string" && value.length <= longest && isUnicode(value) ? value : undefined);
}

/** Return whether a text is without lone surrogates, which no file can hold. */
export function isUnicode(text) {
  return !/\p{Surrogate}/u.test(text);
}

/** Return a function that returns the valid ones of at most `most` items, each once. */
export function listOf(item, most) {
  return (value) => {
    if (!Array.isArray(value)) return undefined;
    return [...new Set(value.slice(0, most).map(item))].filter((each) => each !== undefined);
  };
}

/** Return a function that returns the valid entries of an object, at most `most`: both functions get one and return it. */
export function entriesOf(key, item, most) {
  return (value) => {
    if (!isObject(value)) return undefined;
    const entries = Object.entries(value).slice(0, most).map(([name, each]) => [key(name), item(each)]);
    return Object.fromEntries(entries.filter((entry) => !entry.includes(undefined)));
  };
}

/** Return a function that returns an array in which each item is valid. */
export function tuple(...items) {
  return (value) => {
    if (!Array.isArray(value) || value.length !== items.length) return undefined;
    const checked = items.map((item, at) => item(value[at]));
    return checked.includes(undefined) ? undefined : checked;
  };
}

/** Return whether a value is an object with entries, not an array. */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
