// What docs/wire.md says, in JavaScript: keys, stored runs, records, and enough of
// Redis' protocol to send them. It needs Node.js 18 and no package.

import crypto from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { canonical, pack, unpack } from "./msgpack.mjs";

// Queue names the keys of a queue.
export class Queue {
  constructor(prefix, name) {
    const escaped = name.replace(/[{}:%]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
    this.base = `${prefix}:{${escaped}}:`;
  }
  key(rest) { return this.base + rest; }
  // fixed opens the KEYS of most scripts.
  get fixed() {
    return ["delayed", "io:2", "io:1", "io:0", "cpu:2", "cpu:1", "cpu:0", "idle:io", "idle:cpu", "wake:io", "wake:cpu"].map((k) => this.key(k));
  }
}

// readyList is a run's ready list, 1 to 6, its index in fixed.
export const readyList = (run) => (run.kind ?? 0) * 3 + 2 - (run.priority ?? 0);

// ulid returns an id that sorts by time (https://github.com/ulid/spec).
export function ulid() {
  const bits = (BigInt(Date.now()) << 80n) | BigInt("0x" + crypto.randomBytes(10).toString("hex"));
  let id = "";
  for (let shift = 125n; shift >= 0n; shift -= 5n) id += "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[Number((bits >> shift) & 31n)];
  return id;
}

// storedRun encodes a run as it is stored. Its fields are those of stored-runs.json,
// but the payload is bytes; zero ones can be missing.
export function storedRun(run) {
  const { limits, flags } = policies(run);
  const id = Buffer.from(run.id);
  const head = Buffer.from([1, flags, run.kind ?? 0, 1 + (run.priority ?? 0), 0, 0, 0, 0, id.length]);
  head.writeUInt32BE(run.deliveries ?? 0, 4);
  return Buffer.concat([head, id, flags & 12 ? extension(run, limits) : "", envelope(run)].map((b) => Buffer.from(b)));
}

// policies returns a run's limits, and the flags of its header.
function policies(run) {
  const limits = run.limits ?? [], lined = run.fair || limits.length > 0;
  return { limits, flags: (BigInt(run.keep ?? 0) > 0n ? 1 : 0) | (run.own_id ? 2 : 0) | (run.unique ? 4 : 0) | (lined ? 8 : 0) };
}

// envelope encodes a run without a header. A run within another has its id there.
function envelope(run, within = false) {
  const keep = BigInt(run.keep ?? 0);
  const { limits } = policies(run), links = run.links ?? {}, awaits = links.awaits ?? {};
  const inner = (r) => Buffer.from(envelope({ ...r, payload: r.payload && Buffer.from(r.payload, "hex") }, true));
  const fields = [
    ["i", within && run.id], ["t", run.task], ["q", run.queue], ["k", run.kind], ["p", run.priority],
    ["c", BigInt(run.queued_at ?? 0)], ["u", BigInt(run.due ?? 0)], ["y", BigInt(run.delay ?? 0)],
    ["x", BigInt(run.expire ?? 0)], ["e", keep], ["ek", run.keep_params ? 1 : 0], ["o", run.own_id ? 1 : 0], ["a", run.attempt],
    ["d", run.deliveries], ["f", run.parent_id], ["r", run.root_id],
    ["ha", run.history && history(run.history)], ["hd", BigInt(run.due_again ?? 0)],
    ["n", run.unique], ["m", BigInt(run.unique_for ?? 0)],
    ["l", limits.length > 0 && limits.flatMap((l) => [l.key, l.max, BigInt(l.per ?? 0)])], ["g", run.fair],
    ["wq", links.group_queue], ["w", links.group], ["v", links.member], ["z", awaits.id], ["zq", awaits.queue], ["zn", awaits.size],
    ["zk", awaits.param], ["zp", awaits.partial ? 1 : 0], ["cn", links.returned],
  ].filter(([, v]) => v);
  const headers = Object.entries(run.headers ?? {}).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  if (headers.length > 0) fields.push(["h", new Map(headers)]);
  if (links.members) fields.push(["zm", links.members.map(inner)]);
  if (links.then) fields.push(["s", links.then.flatMap((f) => [f.param ?? "", f.keyed ?? false, inner(f.run)])]);
  fields.push(["b", run.payload]);
  return Buffer.concat([Buffer.from([1]), Buffer.from(pack(new Map(fields)))]);
}

// history is the attempts of a run as envelopes and records have them.
export const history = (attempts) => attempts.flatMap((a) => [BigInt(a.started ?? 0), BigInt(a.took ?? 0), a.host ?? "", a.kind ?? "", a.message ?? ""]);

// extension encodes what scripts are to know of a run.
function extension(run, limits) {
  const text = (s) => Buffer.concat([Buffer.from([s.length]), Buffer.from(s)]);
  const number = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(n); return b; };
  const body = Buffer.concat([text(run.fair ?? ""), text(run.unique ?? ""), Buffer.from([limits.length]),
    ...limits.flatMap((l) => [text(l.key), number(BigInt(l.max)), number((BigInt(l.per ?? 0) + 999n) / 1000n)])]);
  const size = Buffer.alloc(2);
  size.writeUInt16BE(body.length);
  return Buffer.concat([size, body]);
}

// policyKey is the unique key of a task, or the key of one of its limits: the name, and a
// digest of the values that it depends on.
export function policyKey(name, ...values) {
  const sum = crypto.createHash("sha256").update(Buffer.concat(values.map(canonical))).digest();
  return name + "/" + sum.subarray(0, 16).toString("base64url");
}

// parse decodes a stored run into the fields that storedRun takes.
export function parse(e) {
  let at = 9 + e[8];
  if (e[1] & 12) at += 2 + e.readUInt16BE(at);
  if (e.length <= at || e[0] !== 1 || e[at] !== 1) throw new Error("no stored run of version 1");
  const m = unpack(e.subarray(at + 1));
  return {
    id: e.subarray(9, 9 + e[8]).toString(), deliveries: e.readUInt32BE(4),
    task: m.t, queue: m.q, kind: m.k, priority: m.p, queued_at: m.c, due: m.u, delay: m.y, expire: m.x,
    keep: m.e, keep_params: Boolean(m.ek), history: m.ha, due_again: m.hd, own_id: Boolean(m.o), attempt: m.a, parent_id: m.f, root_id: m.r, headers: m.h, payload: m.b,
  };
}

// record encodes what is known of a run; at is in milliseconds: when it is due, began or ended.
export function record(letter, at, map, host) {
  const before = Buffer.from(host ? String.fromCharCode(host.length) + host : "");
  return Buffer.concat([Buffer.from(letter + String(at).padStart(13, "0")), before, pack(map)]);
}

export function parseRecord(b) {
  const opens = b[14] < 128 ? 15 + b[14] : 14; // of the map: before it there can be the host
  const host = b.subarray(15, opens).toString() || undefined;
  return { state: b.subarray(0, 1).toString(), at: Number(b.subarray(1, 14)), host, ...unpack(b.subarray(opens)) };
}

// Redis is one connection. Strings in replies are Buffers.
export class Redis {
  #waiting = [];
  #in = Buffer.alloc(0);

  static connect(addr) {
    const [host, port] = addr.split(":");
    return new Promise((resolve, reject) => {
      const redis = new Redis();
      redis.socket = net.connect(Number(port), host, () => resolve(redis));
      redis.socket.once("error", reject);
      redis.socket.on("data", (data) => redis.#receive(data));
      redis.socket.on("close", () => redis.#waiting.splice(0).forEach((w) => w.reject(new Error("connection closed"))));
    });
  }
  close() { this.socket.end(); }

  // send sends a command. Several can be on their way.
  send(...args) {
    const parts = [Buffer.from(`*${args.length}\r\n`)];
    for (const arg of args) {
      const b = arg instanceof Uint8Array ? arg : Buffer.from(String(arg));
      parts.push(Buffer.from(`$${b.length}\r\n`), b, Buffer.from("\r\n"));
    }
    this.socket.write(Buffer.concat(parts));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  // script executes dir/name.lua by its digest, and by its source where the
  // server does not know that.
  async script(dir, name, keys, args) {
    const source = fs.readFileSync(path.join(dir, name + ".lua"), "utf8");
    const digest = crypto.createHash("sha1").update(source).digest("hex");
    try {
      return await this.send("EVALSHA", digest, keys.length, ...keys, ...args);
    } catch (err) {
      if (!err.message.startsWith("NOSCRIPT")) throw err;
      return this.send("EVAL", source, keys.length, ...keys, ...args);
    }
  }

  #receive(data) {
    this.#in = Buffer.concat([this.#in, data]);
    for (;;) {
      const reply = parseReply(this.#in, 0);
      if (!reply) return;
      this.#in = this.#in.subarray(reply.end);
      const { resolve, reject } = this.#waiting.shift();
      reply.value instanceof Error ? reject(reply.value) : resolve(reply.value);
    }
  }
}

// parseReply returns a whole reply and where it ends, undefined if a part of it
// is still to come.
function parseReply(b, at) {
  const eol = b.indexOf("\r\n", at);
  if (eol < 0) return undefined;
  const kind = String.fromCharCode(b[at]), text = b.subarray(at + 1, eol).toString(), n = Number(text);
  let end = eol + 2;
  if (kind === "+") return { value: text, end };
  if (kind === "-") return { value: new Error(text), end };
  if (kind === ":") return { value: n, end };
  if (n < 0) return { value: null, end };
  if (kind === "$") return b.length < end + n + 2 ? undefined : { value: b.subarray(end, end + n), end: end + n + 2 };
  const value = [];
  while (value.length < n) {
    const item = parseReply(b, end);
    if (!item) return undefined;
    value.push(item.value);
    end = item.end;
  }
  return { value, end };
}
