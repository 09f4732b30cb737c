// A program that calls the HTTP API by the types that openapi-typescript makes of its
// document. tsc compiles it, and node runs it against a server.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string | undefined> };

const api = createClient<paths>({
  baseUrl: process.env.API!,
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
});

function same(got: unknown, want: unknown, what: string): void {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
}

// Integers beyond 2^53 are strings, so that none is rounded.
const scalars: components["schemas"]["ScalarsParams"] = {
  yes: true, i: -1, i8: -128, i16: 1, i32: 1, i64: "9007199254740993",
  u: 0, u8: 255, u16: 1, u32: 1, u64: "18446744073709551615",
  f32: 0.5, f64: "-Infinity", text: "grüße </script>",
};
const queued = await api.POST("/tasks/scalars/runs", {
  params: { header: { "Idempotency-Key": "ts-scalars" }, query: { delay: "1ms" } },
  body: scalars,
});
if (queued.error) {
  throw new Error(queued.error.detail);
}
same(queued.data.id, "ts-scalars", "id");
const scalarsRun = await api.GET("/tasks/scalars/runs/{id}", {
  params: { path: { id: queued.data.id }, query: { wait: "30s" } },
});
same(scalarsRun.data?.state, "succeeded", "state");
same(scalarsRun.data?.result, "grüße </script>", "result");
const later = await api.POST("/tasks/scalars/runs", { params: { query: { delay: "1h" } }, body: scalars });
const laterRun = await api.GET("/tasks/scalars/runs/{id}", { params: { path: { id: later.data!.id } } });
same(laterRun.data?.state, "delayed", "state");
same(laterRun.data?.params?.i64, "9007199254740993", "i64");
same(laterRun.data?.params?.u64, "18446744073709551615", "u64");

// The same key again is the same run.
const again = await api.POST("/tasks/scalars/runs", {
  params: { header: { "Idempotency-Key": "ts-scalars" } },
  body: scalars,
});
same([again.response.status, again.data?.repeated], [200, true], "repeated");

// Times, durations and bytes.
const named = await api.POST("/tasks/named/runs", {
  body: { level: 3, name: "n", ratio: 1, flag: false, wait: "1m30s", at: "2026-11-30T20:15:00.123456789+02:00" },
});
const namedRun = await api.GET("/tasks/named/runs/{id}", { params: { path: { id: named.data!.id }, query: { wait: "30s" } } });
const at: string | undefined = namedRun.data?.result;
same(at, "2026-11-30T18:15:00.123456789Z", "time");
const binary = await api.POST("/tasks/binary/runs", {
  body: { data: "3q2+7w==", blob: null, key: "AAAAAAAAAAAAAAAAAAAAAA==", octets: "", pair: "AQI=", parts: ["AA==", null] },
});
const binaryRun = await api.GET("/tasks/binary/runs/{id}", { params: { path: { id: binary.data!.id }, query: { wait: "30s" } } });
same(binaryRun.data?.result, "3q2+7w==", "bytes");

// Nested types, and types that contain themselves.
const trees = await api.POST("/tasks/trees/runs:batch", {
  body: [
    { tree: { Value: 1, Children: [{ Value: 2 }] } },
    { tree: { Value: 1 }, chain: { Name: "a", Next: { Name: "b", Next: null } } },
  ],
});
same(trees.data?.ids.length, 2, "batch");

// An error has a code, and the place of what is wrong.
const wrong = await api.POST("/tasks/scalars/runs", { body: { ...scalars, i8: 200 } });
if (wrong.error?.code !== "invalid-parameters") {
  throw new Error(`code: ${wrong.error?.code}`);
}
same(wrong.error.errors?.map((e) => e.pointer), ["/i8"], "pointer");

// What does not fit does not compile.
type TreesParams = components["schemas"]["TreesParams"];
// @ts-expect-error there is no such parameter
export const more: TreesParams = { tree: { Value: 1 }, forest: 1 };
void (() => [
  // @ts-expect-error a string is no bool
  api.POST("/tasks/scalars/runs", { body: { ...scalars, yes: "no" } }),
  // @ts-expect-error a parameter is missing
  api.POST("/tasks/trees/runs", { body: {} }),
  // @ts-expect-error there is no such task
  api.POST("/tasks/none/runs", { body: {} }),
  // @ts-expect-error there is no such code
  wrong.error?.code === "no-such-code",
]);

console.log("TypeScript: done");
