package wire

import "strings"

// KindsOfKeys are the types of a queue's keys, by the part behind the hash tag, as
// repair.lua takes them.
var KindsOfKeys = map[string]string{
	"delayed": "zset",
	"io:2":    "list", "io:1": "list", "io:0": "list", "cpu:2": "list", "cpu:1": "list", "cpu:0": "list",
	"idle:io": "string", "idle:cpu": "string", "wake:io": "zset", "wake:cpu": "zset",
	"watched:io": "list", "watched:cpu": "list",
	"inflight": "inflight", "leases": "leases", "takes": "takes",
	"dead": "list", "trimmed": "count", "waiters": "hash", "ended:succeeded": "list", "ended:failed": "list", "ticks": "hash",
	"schedules": "hash", "schedules:changes": "number",
	"disabled": "set", "deferred": "zset", "enabling": "zset", "outbox": "list", "pending": "hash", "last": "hash",
	"stages": "stages", "staged": "staged",
	"backlogs": "zset", "rounds": "zset", "policy": "policy", "recheck": "zset", "running": "hash", "starts": "zset", "rates": "zset", "limits": "hash",
}

// kindsOfMore are the types of keys that a queue has many of, by how they begin.
var kindsOfMore = map[string]string{
	"f:": "list", "d:": "string", "newer:": "string", "lost:": "string", "id:": "string", "u:": "string", "rec:": "string",
	"wait:": "list", "group:": "hash", "pending:": "string", "moved:": "string", "stage:": "list", "stub:": "string", "raised:": "set", "spared:": "string", "cancel:": "hash", "progress:": "string", "tally:": "hash",
}

// KindOfMore returns the kind of a key of which a queue has many, by the part behind the hash
// tag; "" if it is none.
func KindOfMore(rest string) string {
	if i := strings.IndexByte(rest, ':'); i >= 0 {
		return kindsOfMore[rest[:i+1]]
	}
	return ""
}

// TypeOfKind returns the server's type of a kind that repair.lua takes.
func TypeOfKind(kind any) string {
	switch kind {
	case "number", "count", "place":
		return "string"
	case "numbers", "policy", "takes":
		return "hash"
	case "stages":
		return "hash"
	case "staged":
		return "list"
	case "inflight":
		return "set"
	case "leases":
		return "zset"
	}
	s, _ := kind.(string)
	return s
}

// TypeOf returns the type that a key of a broker has to be of, as TYPE names it; "" if
// the key is of no queue.
func TypeOf(prefix, key string) string {
	if key == QueuesKey(prefix) {
		return "set"
	}
	if key == InstancesKey(prefix) {
		return "hash"
	}
	if strings.HasPrefix(key, prefix+":woken:") {
		return "list"
	}
	_, rest, ok := strings.Cut(strings.TrimPrefix(key, prefix+":{"), "}:")
	if !ok {
		return ""
	}
	kind := KindsOfKeys[rest]
	if kind == "" {
		kind = KindOfMore(rest)
	}
	if kind == "" {
		return "string"
	}
	return TypeOfKind(kind)
}
