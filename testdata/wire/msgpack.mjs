// The part of MessagePack (https://msgpack.org) that taskgen writes and reads.

// pack returns a value's shortest form. Integers may be numbers or BigInts,
// binary is a Uint8Array, a map is an object or a Map.
export function pack(v) {
  if (v === null || v === undefined) return Buffer.from([0xc0]);
  if (v === false || v === true) return Buffer.from([v ? 0xc3 : 0xc2]);
  if (typeof v === "bigint" || Number.isInteger(v)) return packInt(BigInt(v));
  if (typeof v === "number") {
    const b = Buffer.alloc(9, 0xcb);
    b.writeDoubleBE(v, 1);
    return b;
  }
  if (typeof v === "string") {
    const b = Buffer.from(v, "utf8");
    return Buffer.concat([b.length < 32 ? Buffer.from([0xa0 | b.length]) : length(b.length, 0xd9, 0xda, 0xdb), b]);
  }
  if (v instanceof Uint8Array) return Buffer.concat([length(v.length, 0xc4, 0xc5, 0xc6), v]);
  if (v instanceof Date) { // a timestamp of 12 bytes: nanoseconds and seconds
    const b = Buffer.from([0xc7, 12, 0xff, ...new Uint8Array(12)]);
    const ms = v.getTime(), s = Math.floor(ms / 1000);
    b.writeUInt32BE((ms - s * 1000) * 1e6, 3);
    b.writeBigInt64BE(BigInt(s), 7);
    return b;
  }
  if (Array.isArray(v)) return Buffer.concat([header(v.length, 0x90, 0xdc, 0xdd), ...v.map(pack)]);
  const pairs = [...(v instanceof Map ? v : Object.entries(v))];
  return Buffer.concat([header(pairs.length, 0x80, 0xde, 0xdf), ...pairs.flat().map(pack)]);
}

function packInt(v) {
  if (v >= -32n && v < 128n) return Buffer.from([Number(BigInt.asUintN(8, v))]);
  const first = v < 0n ? 0xd0 : 0xcc;
  for (let i = 0; i < 4; i++) {
    const bits = 8 << i;
    if (v < 0n ? BigInt.asIntN(bits, v) !== v : BigInt.asUintN(bits, v) !== v) continue;
    const hex = BigInt.asUintN(bits, v).toString(16).padStart(bits / 4, "0");
    return Buffer.from([first + i, ...Buffer.from(hex, "hex")]);
  }
  throw new RangeError(`${v} has more than 64 bits`);
}

// length is a first byte and a length of 8, 16 or 32 bits.
function length(n, c8, c16, c32) {
  return n < 256 ? Buffer.from([c8, n]) : long(n, c16, c32);
}

// header is a first byte that has a length below 16, or is followed by one.
function header(n, fix, c16, c32) {
  return n < 16 ? Buffer.from([fix | n]) : long(n, c16, c32);
}

function long(n, c16, c32) {
  return n < 65536 ? Buffer.from([c16, n >> 8, n & 255]) : Buffer.from([c32, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]);
}

// canonical returns the form of a value of which keys of policies are digests: equal values
// have the same.
export function canonical(v) {
  if (v instanceof Uint8Array) return v.length === 0 ? pack(null) : canonicalText(Buffer.from(v));
  if (typeof v === "number" && Number.isInteger(v) && Math.abs(v) > 2 ** 53) {
    const b = Buffer.alloc(9, 0xcb);
    b.writeDoubleBE(v, 1);
    return b;
  }
  if (Number.isNaN(v)) return Buffer.from("cb7ff8000000000000", "hex");
  if (v instanceof Date) return instant(v);
  if (v === null || typeof v !== "object") return pack(v);
  if (Array.isArray(v)) return v.length === 0 ? pack(null) : Buffer.concat([header(v.length, 0x90, 0xdc, 0xdd), ...v.map(canonical)]);
  const pairs = [...(v instanceof Map ? v : Object.entries(v))].map((pair) => pair.map(canonical));
  pairs.sort(([a], [b]) => Buffer.compare(a, b));
  return pairs.length === 0 ? pack(null) : Buffer.concat([header(pairs.length, 0x80, 0xde, 0xdf), ...pairs.flat()]);
}

function canonicalText(b) {
  return Buffer.concat([b.length < 32 ? Buffer.from([0xa0 | b.length]) : length(b.length, 0xd9, 0xda, 0xdb), b]);
}

// instant is the shortest timestamp.
function instant(date) {
  const ms = date.getTime(), s = Math.floor(ms / 1000), ns = BigInt(ms - s * 1000) * 1_000_000n;
  if (s < 0 || s >= 2 ** 34) return pack(date);
  const b = Buffer.alloc(10, 0xd7);
  b[1] = 0xff;
  b.writeBigUInt64BE((ns << 34n) | BigInt(s), 2);
  return ns === 0n && s < 2 ** 32 ? Buffer.from([0xd6, 0xff, ...b.subarray(6)]) : b;
}

// unpack returns what bytes hold. Integers beyond 2^53 become BigInts, a map an
// object without prototype, a timestamp a Date. Bytes left over are an error.
export function unpack(bytes) {
  const b = Buffer.from(bytes);
  let at = 0;
  const take = (n) => {
    if (at + n > b.length) throw new RangeError("cut off");
    return b.subarray(at, (at += n));
  };
  const size = (n) => take(n).readUIntBE(0, n);
  const list = (n) => Array.from({ length: n }, value);
  const map = (n) => {
    const m = Object.create(null);
    for (; n > 0; n--) {
      const key = value();
      m[key] = value();
    }
    return m;
  };
  const integer = (v) => (v >= Number.MIN_SAFE_INTEGER && v <= Number.MAX_SAFE_INTEGER ? Number(v) : v);
  const extension = (n) => {
    const kind = take(1).readInt8(), data = take(n);
    if (kind !== -1) return { kind, data };
    if (n === 4) return new Date(data.readUInt32BE() * 1000);
    if (n === 12) return new Date(Number(data.readBigInt64BE(4)) * 1000 + data.readUInt32BE() / 1e6);
    const v = data.readBigUInt64BE();
    return new Date(Number(v & 0x3ffffffffn) * 1000 + Number(v >> 34n) / 1e6);
  };
  function value() {
    const c = size(1);
    if (c < 0x80) return c;
    if (c < 0x90) return map(c & 15);
    if (c < 0xa0) return list(c & 15);
    if (c < 0xc0) return take(c & 31).toString("utf8");
    if (c >= 0xe0) return c - 256;
    switch (c) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return take(size(1 << (c - 0xc4)));
      case 0xc7: case 0xc8: case 0xc9: return extension(size(1 << (c - 0xc7)));
      case 0xca: return take(4).readFloatBE();
      case 0xcb: return take(8).readDoubleBE();
      case 0xcc: case 0xcd: case 0xce: return size(1 << (c - 0xcc));
      case 0xcf: return integer(take(8).readBigUInt64BE());
      case 0xd0: case 0xd1: case 0xd2: return take(1 << (c - 0xd0)).readIntBE(0, 1 << (c - 0xd0));
      case 0xd3: return integer(take(8).readBigInt64BE());
      case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return extension(1 << (c - 0xd4));
      case 0xd9: case 0xda: case 0xdb: return take(size(1 << (c - 0xd9))).toString("utf8");
      case 0xdc: case 0xdd: return list(size(2 << (c - 0xdc)));
      case 0xde: case 0xdf: return map(size(2 << (c - 0xde)));
    }
    throw new RangeError(`0x${c.toString(16)} opens no value`);
  }
  const v = value();
  if (at < b.length) throw new RangeError("bytes left over");
  return v;
}
