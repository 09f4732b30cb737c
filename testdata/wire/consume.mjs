// Works a queue as docs/wire.md says. Two runs of internal/testapp's echo wait
// in it: this process takes both in a session that then falls silent after it
// has finished one, recovers the other in a second session, and finishes that.
// Arguments: host:port, prefix, the folder with the scripts, and the queue.

import assert from "node:assert/strict";
import crypto from "node:crypto";
import { pack, unpack } from "./msgpack.mjs";
import { parse, Queue, record, Redis } from "./wire.mjs";

const [addr, prefix, scripts, name] = process.argv.slice(2);
const redis = await Redis.connect(addr);
const q = new Queue(prefix, name);
const maxDead = 10_000;
const unreadable = failure("schema", "the stored entry is not one of a run", "");

// failure encodes why a run did not succeed, as dead letters have it.
function failure(kind, message, stack) {
  const b = Buffer.concat([kind, message, stack].map((s) => pack(Buffer.from(s))));
  const size = Buffer.alloc(4);
  size.writeUInt32BE(b.length);
  return Buffer.concat([size, b]);
}

class Session {
  id = crypto.randomBytes(16).toString("hex");
  number = 0; // of the last batch
  constructor(lease) { this.lease = lease; }

  // take returns up to n runs for goroutines, once there are some.
  async take(n) {
    for (;;) {
      const member = `${this.id}:${this.number + 1}`;
      const keys = [...q.fixed, q.key("inflight"), q.key("leases"), q.key("takes"), q.key("f:" + member),
        q.key("paused"), q.key("disabled"), q.key("deferred"), q.key("enabling"),
        ...["backlogs", "rounds", "policy", "recheck", "running", "starts", "rates", "outbox", "stages", "limits"].map((k) => q.key(k))];
      const [due, ...entries] = await redis.script(scripts, "take", keys,
        [this.id, this.number + 1, this.lease, n, 0, n, 1, 0, 0]);
      if (due === -2 || entries.length > 0) this.number++;
      if (entries.length > 0) return { member, size: entries.length, runs: entries.map((e, index) => ({ ...parse(e), index })) };
      if (due !== -2) await redis.send("BZMPOP", Math.max(0.001, Math.min(2, due < 0 ? 2 : due / 1000)), 1, q.key("wake:io"), "MIN");
    }
  }

  renew(lease = this.lease) {
    return redis.script(scripts, "renew", [q.key("leases"), q.key("lost:" + this.id)], [this.id, lease]);
  }

  // succeed finishes a run that has a record; whole says that it is the last
  // one of its batch. It returns what is fenced.
  async succeed(batch, run, result, whole) {
    const keys = [...q.fixed, q.key("inflight"), q.key("dead"), q.key("trimmed"), q.key("waiters"),
      ...["backlogs", "rounds", "policy", "recheck", "running", "outbox", "ended:succeeded", "ended:failed"].map((k) => q.key(k)),
      q.key("f:" + batch.member), q.key("d:" + batch.member), q.key("rec:" + run.id)];
    const bitmap = Buffer.alloc(Math.ceil(batch.size / 8));
    bitmap[run.index >> 3] |= 0x80 >> (run.index & 7);
    const kept = Math.max(1, Math.ceil(Number(run.keep) / 1e6));
    const [fenced, waiters] = await redis.script(scripts, "finish", keys, [
      maxDead, 1, q.key("rec:").length, batch.member, whole ? 1 : 0, 0, bitmap,
      1, record("s", 0, { t: run.task, a: (run.attempt ?? 0) + 1, ...(run.parent_id && { p: run.parent_id }), r: result }), kept, run.id, "", kept, 0,
    ]);
    for (let i = 0; i < waiters.length; i += 2) {
      await redis.send("RPUSH", q.key("wait:" + waiters[i]), waiters[i + 1]);
      await redis.send("PEXPIRE", q.key("wait:" + waiters[i]), 60_000);
    }
    return fenced;
  }

  async leave() {
    await redis.send("DEL", q.key("lost:" + this.id));
    await redis.send("ZREM", q.key("leases"), this.id);
    await redis.send("HDEL", q.key("takes"), this.id);
  }
}

// recover gives back what sessions hold whose lease has ended.
async function recover() {
  let given = 0, cursor = "0";
  do {
    const [next, members] = await redis.script(scripts, "expired", [q.key("inflight"), q.key("leases"), q.key("takes"), q.key("outbox")], [cursor, 100]);
    for (const member of members.map(String)) {
      const session = member.split(":")[0];
      const entries = await redis.send("LRANGE", q.key("f:" + member), 0, -1);
      const kept = entries.flatMap((e, i) => (e[1] & 1 ? [i] : [])); // they have records
      const [n] = await redis.script(scripts, "giveback",
        [...q.fixed, ...["inflight", "leases", "lost:" + session, "f:" + member, "d:" + member, "dead", "trimmed",
          "backlogs", "rounds", "policy", "recheck", "running", "cancel:" + session, "outbox"].map((k) => q.key(k)),
          ...kept.map((i) => q.key("rec:" + parse(entries[i]).id))],
        [session, member, "recover", maxDead, unreadable, 0, ...kept]);
      given += n;
    }
    cursor = next.toString();
  } while (cursor !== "0");
  return given;
}

// echo does what the task of this name does.
function echo(run) {
  const { text, times } = unpack(run.payload);
  return pack({ Text: text + " by node", parts: Array(times).fill(text), At: new Date(1_700_000_000_123), PID: process.pid });
}

const silent = new Session(60_000), live = new Session(60_000);
const batch = await silent.take(2);
assert.equal(batch.size, 2);
assert.deepEqual(batch.runs.map((r) => [r.task, r.queue, r.deliveries]), [["echo", name, 0], ["echo", name, 0]]);
assert.equal(String(await silent.renew()), "", "nothing was recovered yet");
assert.equal(await recover(), 0, "the lease has not ended");
assert.deepEqual(await silent.succeed(batch, batch.runs[0], echo(batch.runs[0]), false), []);

assert.equal(String(await silent.renew(1)), "", "this lease ends at once");
const began = Date.now();
while ((await recover()) === 0) {
  assert.ok(Date.now() < began + 10_000, "the lease does not end");
  await new Promise((resolve) => setTimeout(resolve, 5));
}
assert.deepEqual(await silent.succeed(batch, batch.runs[1], echo(batch.runs[1]), true), [1, -1], "it is another's now");
assert.notEqual(String(await silent.renew()), "", "something was recovered");

const again = await live.take(2);
assert.equal(again.size, 1, "the finished one stays finished");
assert.equal(again.runs[0].id, batch.runs[1].id);
assert.equal(again.runs[0].deliveries, 1);
assert.deepEqual(await live.succeed(again, again.runs[0], echo(again.runs[0]), true), []);
await silent.leave();
await live.leave();
console.log(JSON.stringify({ pid: process.pid, ids: batch.runs.map((r) => r.id) }));
redis.close();
