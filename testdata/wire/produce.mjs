// Queues runs of internal/testapp as docs/wire.md says, waits for what is to be
// known of them, and prints it as JSON. Arguments: host:port, prefix, and the
// folder with the scripts.

import assert from "node:assert/strict";
import crypto from "node:crypto";
import { pack, unpack } from "./msgpack.mjs";
import { storedRun, readyList, parseRecord, Queue, record, Redis, ulid } from "./wire.mjs";

const [addr, prefix, scripts] = process.argv.slice(2);
const redis = await Redis.connect(addr);

// now is in nanoseconds since the epoch.
const now = () => BigInt(Date.now()) * 1_000_000n;
const hour = 3_600_000_000_000n;

// A run that nothing can refuse needs no script: the stored run goes to the tail of
// its ready list, and a token to who waits. A record is stored along with it.
async function queuePlainly(run) {
  run = { id: ulid(), queued_at: now(), ...run };
  const q = new Queue(prefix, run.queue);
  const commands = [
    ["RPUSH", q.fixed[readyList(run)], storedRun(run)],
    ["ZADD", q.key(run.kind ? "wake:cpu" : "wake:io"), 0, "1"],
  ];
  if (run.keep) {
    commands.unshift(["MULTI"], ["SET", q.key("rec:" + run.id), record("q", 0, { t: run.task, a: 0 })]);
    commands.push(["EXEC"]);
  }
  await redis.send("SADD", `${prefix}:queues`, run.queue);
  await Promise.all(commands.map((c) => redis.send(...c)));
  return run.id;
}

// Any other goes through enqueue.lua, here as a call of its own.
async function queueByScript(run) {
  run = { id: ulid(), queued_at: now(), ...run };
  const q = new Queue(prefix, run.queue);
  const keys = [...q.fixed, ...["ticks", "disabled", "dead", "outbox", "backlogs", "rounds", "policy", "ended:failed"].map((k) => q.key(k))];
  const args = [crypto.randomBytes(8).toString("hex"), 1, "", "", "", run.own_id ? 1 : 0, 0];
  if (run.own_id) keys.push(q.key("id:" + run.id));
  const due = run.delay ? "+" + run.delay / 1_000_000n : "";
  if (due) args.push(0, 1, due, readyList(run), 1, storedRun(run));
  else args.push(1, readyList(run), 1, storedRun(run), 0);
  if (run.keep) {
    keys.push(q.key("rec:" + run.id));
    const first = record("q", 0, { t: run.task, a: 0 });
    args.push(1, due, due ? Buffer.concat([first.subarray(0, 1), first.subarray(14)]) : first);
  } else {
    args.push(0);
  }
  await redis.send("SADD", `${prefix}:queues`, run.queue);
  const [verdict] = await redis.script(scripts, "enqueue", keys, args);
  return { id: run.id, verdict };
}

// ended waits for the end of a run that has a record.
async function ended(queue, id) {
  const q = new Queue(prefix, queue), waiter = crypto.randomBytes(8).toString("hex");
  for (;;) {
    const stored = await redis.script(scripts, "record", [q.key("rec:" + id), q.key("waiters"), q.key("progress:" + id)], [waiter, id]);
    assert.ok(stored, "the run has no record");
    const r = parseRecord(stored[0]);
    if (r.state === "s" || r.state === "f") return r;
    await redis.send("BLPOP", q.key("wait:" + waiter), 2);
  }
}

const plain = await queuePlainly({
  task: "recorder_record", queue: "default", payload: pack({ note: "grüße from node ✓" }),
  headers: { "trace-id": "4711", größe: "Ω" }, parent_id: "parent", root_id: "root",
});
const mail = await queuePlainly({
  task: "recorder_mail", queue: "mail", priority: 1, payload: pack(new Map([["unknown", [1, { a: null }]], ["to", "x".repeat(70_000)]])),
});

const asked = Date.now();
const delayed = await queueByScript({
  task: "echo", queue: "default", delay: 100_000_000n, keep: hour, payload: pack({ times: 3, text: "delayed" }),
});
const before = parseRecord(await redis.send("GET", new Queue(prefix, "default").key("rec:" + delayed.id)));
assert.equal(before.state, "d");
assert.ok(before.at >= asked + 100, "due before its delay was over");
const succeeded = await ended("default", delayed.id);
const result = unpack(succeeded.r);
assert.ok(result.At.getTime() >= before.at, "it started before it was due");

// An id of one's own is free again once its run has ended.
const own = { id: "own-id", own_id: true, task: "echo", queue: "default", delay: 300_000_000n, keep: hour };
const first = await queueByScript({ ...own, payload: pack({ text: "own", times: 1 }) });
const second = await queueByScript({ ...own, payload: pack({ text: "refused", times: 1 }) });
const ownResult = unpack((await ended("default", first.id)).r);
const third = await queueByScript({ ...own, delay: 0n, payload: pack({ text: "again", times: 1 }) });
await ended("default", third.id);

// Parameters that do not fit the task end it at once, as a dead letter.
const wrong = await queuePlainly({ task: "echo", queue: "default", keep: hour, payload: pack({ text: "no times" }) });
const failed = await ended("default", wrong);
const [dead] = await redis.send("LRANGE", new Queue(prefix, "default").key("dead"), 0, 0);
const size = dead.readUInt32BE(13);

console.log(JSON.stringify({
  plain, mail,
  delayed: { id: delayed.id, attempts: succeeded.a, text: result.Text, parts: result.parts, pid: result.PID },
  own: [first.verdict, second.verdict, third.verdict], ownText: ownResult.Text,
  wrong: { id: wrong, state: failed.state, kind: failed.fk.toString(), message: failed.fm.toString() },
  dead: { kind: unpack(dead.subarray(17, 17 + 2 + dead[18])).toString(), id: dead.subarray(17 + size + 9, 17 + size + 9 + dead[17 + size + 8]).toString() },
}));
redis.close();
