// XXH3 with 128 bits, seed 0 and the default secret, as the checksums of graph files (graphs/checksums.py) are.
// After the specification in https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.

const SECRET = bytesOfHex(
  "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c" +
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364" +
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e",
);
const [P32_1, P32_2, P32_3] = [0x9e3779b1n, 0x85ebca77n, 0xc2b2ae3dn];
const [P64_1, P64_2, P64_3] = [0x9e3779b185ebca87n, 0xc2b2ae3d27d4eb4fn, 0x165667b19e3779f9n];
const [P64_4, P64_5] = [0x85ebca77c2b2ae63n, 0x27d4eb2f165667c5n];
const [STRIPE, BLOCK] = [64, 1024]; // bytes

/** Return the hash of a Uint8Array as 32 hexadecimal digits. */
export function xxh3(bytes) {
  const input = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [low, high] = hashOf(input, bytes.length);
  return hex(high) + hex(low);
}

function hashOf(input, length) {
  if (length > 240) return hashLong(input, length);
  if (length > 16) return hashMiddle(input, length);
  if (length > 8) return hash9to16(input, length);
  if (length > 3) return hash4to8(input, length);
  return length ? hash1to3(input, length) : [avalanche64(secret(64) ^ secret(72)), avalanche64(secret(80) ^ secret(88))];
}

function hash1to3(input, length) {
  const [first, middle, last] = [input.getUint8(0), input.getUint8(length >> 1), input.getUint8(length - 1)];
  const low = ((first << 16) | (middle << 24) | last | (length << 8)) >>> 0;
  const swapped = swapped32(low);
  const high = ((swapped << 13) | (swapped >>> 19)) >>> 0;
  const flip = (at) => BigInt((SECRET.getUint32(at, true) ^ SECRET.getUint32(at + 4, true)) >>> 0);
  return [avalanche64(BigInt(low) ^ flip(0)), avalanche64(BigInt(high) ^ flip(8))];
}

function hash4to8(input, length) {
  const value = BigInt(input.getUint32(0, true)) + (BigInt(input.getUint32(length - 4, true)) << 32n);
  const product = (value ^ secret(16) ^ secret(24)) * (P64_1 + BigInt(length << 2));
  let [low, high] = halves(product);
  high = wrap(high + (low << 1n));
  low ^= high >> 3n;
  low = wrap((low ^ (low >> 35n)) * 0x9fb21c651e98df25n);
  return [low ^ (low >> 28n), avalanche(high)];
}

function hash9to16(input, length) {
  const [start, end] = [read(input, 0), read(input, length - 8)];
  let [low, high] = halves((start ^ end ^ secret(32) ^ secret(40)) * P64_1);
  low = wrap(low + (BigInt(length - 1) << 54n));
  const flipped = end ^ secret(48) ^ secret(56);
  high = wrap(high + flipped + (flipped & 0xffffffffn) * (P32_2 - 1n));
  low ^= swapped64(high);
  const [last, carried] = halves(low * P64_2);
  return [avalanche(last), avalanche(wrap(carried + high * P64_2))];
}

function hashMiddle(input, length) {
  let sums = [wrap(BigInt(length) * P64_1), 0n];
  if (length <= 128) {
    for (let at = ((length - 1) >> 5) * 16; at >= 0; at -= 16) sums = mixed(sums, input, at, length - 16 - at, 2 * at);
  } else {
    for (let at = 0; at < 128; at += 32) sums = mixed(sums, input, at, at + 16, at);
    sums = sums.map(avalanche);
    for (let at = 128; at + 32 <= length; at += 32) sums = mixed(sums, input, at, at + 16, at - 125);
    sums = mixed(sums, input, length - 16, length - 32, 103);
  }
  const [low, high] = sums;
  const second = wrap(low * P64_1 + high * P64_4 + BigInt(length) * P64_2);
  return [avalanche(wrap(low + high)), wrap(-avalanche(second))];
}

/** Mix 16 bytes from each of two places into two sums. */
function mixed([low, high], input, first, second, key) {
  const sum = (at) => wrap(read(input, at) + read(input, at + 8));
  const fold = (at, place) => folded((read(input, at) ^ secret(place)) * (read(input, at + 8) ^ secret(place + 8)));
  return [wrap(low + fold(first, key)) ^ sum(second), wrap(high + fold(second, key + 16)) ^ sum(first)];
}

function hashLong(input, length) {
  const sums = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1];
  const whole = Math.floor((length - 1) / BLOCK) * BLOCK;
  for (let start = 0; start < whole; start += BLOCK) {
    for (let at = 0; at < BLOCK; at += STRIPE) accumulate(sums, input, start + at, at / 8);
    sums.forEach((sum, lane) => (sums[lane] = wrap((sum ^ (sum >> 47n) ^ secret(128 + 8 * lane)) * P32_1)));
  }
  for (let at = whole; at + STRIPE < length; at += STRIPE) accumulate(sums, input, at, (at - whole) / 8);
  accumulate(sums, input, length - STRIPE, 121);
  const size = BigInt(length);
  return [merged(sums, 11, wrap(size * P64_1)), merged(sums, 117, wrap(~(size * P64_2)))];
}

function accumulate(sums, input, at, key) {
  for (let lane = 0; lane < 8; lane++) {
    const value = read(input, at + 8 * lane);
    const keyed = value ^ secret(key + 8 * lane);
    sums[lane ^ 1] = wrap(sums[lane ^ 1] + value);
    sums[lane] = wrap(sums[lane] + (keyed & 0xffffffffn) * (keyed >> 32n));
  }
}

function merged(sums, key, start) {
  let result = start;
  for (let lane = 0; lane < 8; lane += 2) {
    result += folded((sums[lane] ^ secret(key + 8 * lane)) * (sums[lane + 1] ^ secret(key + 8 * lane + 8)));
  }
  return avalanche(wrap(result));
}

// --- 64 bits --------------------------------------------------------------------------------

function avalanche(value) {
  const mixedValue = wrap((value ^ (value >> 37n)) * 0x165667919e3779f9n);
  return mixedValue ^ (mixedValue >> 32n);
}

function avalanche64(value) {
  const once = wrap((value ^ (value >> 33n)) * P64_2);
  const twice = wrap((once ^ (once >> 29n)) * P64_3);
  return twice ^ (twice >> 32n);
}

function wrap(value) {
  return BigInt.asUintN(64, value);
}

function halves(product) {
  return [wrap(product), product >> 64n];
}

function folded(product) {
  return wrap(product) ^ (product >> 64n);
}

function read(view, at) {
  return view.getBigUint64(at, true);
}

function secret(at) {
  return SECRET.getBigUint64(at, true);
}

function swapped32(value) {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, value);
  return view.getUint32(0, true);
}

function swapped64(value) {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value);
  return view.getBigUint64(0, true);
}

function hex(value) {
  return value.toString(16).padStart(16, "0");
}

function bytesOfHex(text) {
  return new DataView(Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16)).buffer);
}
