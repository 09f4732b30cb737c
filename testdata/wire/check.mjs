// Holds the vectors beside it against the encoder of wire.mjs, which was written
// from docs/wire.md, and prints how many there are.

import assert from "node:assert/strict";
import fs from "node:fs";
import { canonical, pack, unpack } from "./msgpack.mjs";
import { history, storedRun, parse, parseRecord, policyKey, record } from "./wire.mjs";

const vectors = (file) => JSON.parse(fs.readFileSync(new URL(file, import.meta.url), "utf8"));
const bytes = (hex) => Buffer.from(hex ?? "", "hex");
let n = 0;

for (const v of vectors("stored-runs.json")) {
  const wrote = storedRun({ ...v.run, payload: v.run.payload && bytes(v.run.payload) });
  if (v.read_only) assert.notEqual(wrote.toString("hex"), v.hex, v.name);
  else assert.equal(wrote.toString("hex"), v.hex, v.name);
  const read = parse(bytes(v.hex));
  assert.deepEqual([read.id, read.task, read.queue], [v.run.id, v.run.task, v.run.queue], v.name);
  // A string keeps no bytes in JavaScript that are not UTF-8.
  if (typeof read.payload !== "string") assert.deepEqual(read.payload ?? bytes(""), bytes(v.run.payload), v.name);
  n++;
}
for (const v of vectors("records.json")) {
  const f = v.record.failure, map = { t: v.record.task, a: v.record.attempt ?? 0 };
  if (v.record.parent_id) map.p = v.record.parent_id;
  if (v.record.queued_at) map.qa = BigInt(v.record.queued_at);
  if (v.record.history) map.ha = history(v.record.history);
  if (v.record.payload) map.b = bytes(v.record.payload);
  if (v.record.result) map.r = bytes(v.record.result);
  if (v.record.successors) map.c = v.record.successors.flatMap((s) => [s.queue, s.id]);
  if (f) Object.assign(map, { fk: Buffer.from(f.kind), fm: Buffer.from(f.message ?? ""), fs: Buffer.from(f.stack ?? "") });
  const letter = v.record.state === "cancelled" ? "f" : v.record.state[0];
  assert.equal(record(letter, v.record.at_ms ?? 0, map, v.record.host).toString("hex"), v.hex, v.name);
  const read = parseRecord(bytes(v.hex));
  assert.deepEqual([read.state, read.at, read.t, read.host], [letter, v.record.at_ms ?? 0, v.record.task, v.record.host], v.name);
  n++;
}
for (const v of vectors("outbox.json")) {
  if (!v.run) continue; // the end of a member has no run
  const stored = storedRun({ ...v.run, payload: bytes(v.run.payload) });
  assert.equal(bytes(v.hex).subarray(16).toString("hex"), stored.toString("hex"), v.name);
  n++;
}
for (const v of vectors("instances.json")) {
  const map = {
    r: v.role, h: v.host, p: v.pid, v: v.version, s: BigInt(v.started), x: v.stopping, q: v.queues, m: v.more, a: v.address,
    w: BigInt(v.scraped), e: v.session, l: v.slots.flat(), c: v.children,
  };
  assert.equal(Buffer.concat([Buffer.from(String(v.seen_ms)), pack(map)]).toString("hex"), v.hex, v.name);
  n++;
}
for (const v of vectors("tallies.json")) {
  const minutes = new Map(); // of each its counts by their numbers
  for (const m of v.minutes) {
    const counts = minutes.get(m.minute) ?? Array(52).fill(0);
    [[0, m.counts], [4, m.waits], [28, m.times]].forEach(([from, list]) => list.forEach((c, i) => { counts[from + i] += c; }));
    minutes.set(m.minute, counts);
  }
  const series = [...minutes].map(([minute, counts]) => {
    const packed = pack(counts.flatMap((c, i) => (c ? [i, c] : [])));
    return Buffer.concat([Buffer.from([minute, packed.length >> 8, packed.length & 255]), packed]);
  });
  assert.equal(Buffer.concat(series).toString("hex"), v.hex, v.name);
  n++;
}
for (const v of vectors("keys.json")) {
  for (const form of v.values) {
    const values = form.map((hex) => unpack(bytes(hex)));
    assert.equal(Buffer.concat(values.map(canonical)).toString("hex"), v.canonical, v.name);
    assert.equal(policyKey(v.of, ...values), v.key, v.name);
    n++;
  }
}
console.log(n);
