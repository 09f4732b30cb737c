package redis

import (
	"fmt"
	"slices"
	"strings"
)

// queuesKey names the set of all queues' names.
func queuesKey(prefix string) string { return prefix + ":queues" }

// wokenKey names the list by which consumers of several queues are woken for runs of a
// kind.
func wokenKey(prefix string, kind int) string {
	return prefix + [2]string{":woken:io", ":woken:cpu"}[kind]
}

// queueKeys are the keys of one queue.
type queueKeys struct {
	name    string
	base    string // opens all its keys, and ends with a colon
	fixed   []string
	delayed string
	ready   []string // io high, medium, low, cpu high, medium, low
	wake    []string // io, cpu
	watched []string // io, cpu: who takes from several queues is woken by what is there
	flights string
	leases  string
	ops     string
	dead    string
	dropped string
	waiters string
	ticks   string

	paused   string
	disabled string
	entries  string
	changes  string
	aside    string
	enabling string
	outbox   string
	parking  string
	last     string
	stages   string // calls that are not moved into the queue yet
	staged   string // those of them that are committed

	// What runs with limits or a fair value need (lines.lua, turns.lua).
	lines, turns, policy, opens, held, starts, rates string
	audited                                          string
}

// newQueueKeys returns the keys of a queue.
func newQueueKeys(prefix, name string) queueKeys {
	base := prefix + ":{" + escape(name) + "}:"
	q := queueKeys{
		name:    name,
		base:    base,
		delayed: base + "delayed",
		flights: base + "flights",
		leases:  base + "leases",
		ops:     base + "ops",
		dead:    base + "dead",
		dropped: base + "dropped",
		waiters: base + "waiters",
		ticks:   base + "ticks",

		paused:   base + "paused",
		disabled: base + "disabled",
		entries:  base + "entries",
		changes:  base + "entries:changes",
		aside:    base + "aside",
		enabling: base + "enabling",
		outbox:   base + "outbox",
		parking:  base + "parking",
		last:     base + "last",
		stages:   base + "stages",
		staged:   base + "staged",

		lines:   base + "lines",
		turns:   base + "turns",
		policy:  base + "policy",
		opens:   base + "opens",
		held:    base + "held",
		audited: base + "audited",
		starts:  base + "starts",
		rates:   base + "rates",
	}
	q.fixed = []string{
		q.delayed,
		base + "io:2", base + "io:1", base + "io:0",
		base + "cpu:2", base + "cpu:1", base + "cpu:0",
		base + "idle:io", base + "idle:cpu",
		base + "wake:io", base + "wake:cpu",
	}
	q.ready, q.wake = q.fixed[1:7], q.fixed[9:11]
	q.watched = []string{base + "watched:io", base + "watched:cpu"}
	return q
}

// flightsOf returns of a queue's keys no more than it takes to find its node.
func flightsOf(prefix, name string) queueKeys {
	return queueKeys{name: name, flights: prefix + ":{" + escape(name) + "}:flights"}
}

// keys starts the KEYS of a script: those that nearly all of them have, and
// more.
func (q *queueKeys) keys(more ...string) []string {
	return append(q.fixed[:len(q.fixed):len(q.fixed)], more...)
}

func (q *queueKeys) batch(member string) string    { return q.base + "f:" + member }
func (q *queueKeys) done(member string) string     { return q.base + "d:" + member }
func (q *queueKeys) lost(session string) string    { return q.base + "lost:" + session }
func (q *queueKeys) raised(session string) string  { return q.base + "raised:" + session }
func (q *queueKeys) spared(id string) string       { return q.base + "spared:" + id }
func (q *queueKeys) owner(id string) string        { return q.base + "id:" + id }
func (q *queueKeys) record(id string) string       { return q.base + "rec:" + id }
func (q *queueKeys) cancels(session string) string { return q.base + "cancel:" + session }
func (q *queueKeys) progress(id string) string     { return q.base + "progress:" + id }
func (q *queueKeys) parked(id string) string       { return q.base + "parked:" + id }
func (q *queueKeys) group(id string) string        { return q.base + "group:" + id }
func (q *queueKeys) ended(instance string) string  { return q.base + "wait:" + instance }
func (q *queueKeys) newer(id string) string        { return q.base + "newer:" + id }
func (q *queueKeys) unique(key string) string      { return q.base + "u:" + key }

// escape makes a queue's name safe inside a hash tag and before a colon. It is
// reversible, so distinct names have distinct keys.
func escape(name string) string {
	if !strings.ContainsAny(name, "{}:%") {
		return name
	}
	var s strings.Builder
	for i := range len(name) {
		switch c := name[i]; c {
		case '{', '}', ':', '%':
			fmt.Fprintf(&s, "%%%02X", c)
		default:
			s.WriteByte(c)
		}
	}
	return s.String()
}

func (q *queueKeys) staging(token string) string { return q.base + token }

// stub is the key by which a repeated commit learns that all was moved.
func (q *queueKeys) stub(token string) string {
	return q.base + "stub:" + strings.TrimPrefix(token, stageOpens)
}

// waits returns the keys of runs that wait, the way they move.
func (q *queueKeys) waits() []string { return append([]string{q.aside}, q.fixed[:7]...) }

// linePrefix is how many bytes of an entry of the lines come before its element.
const linePrefix = 49

// elementOf returns the element of an entry of one of the queue's keys.
func (q *queueKeys) elementOf(key, entry string) string {
	if key == q.lines {
		return entry[min(linePrefix, len(entry)):]
	}
	return entry
}

// all returns the keys that a queue has one of.
func (q *queueKeys) all() []string {
	return q.keys(q.flights, q.leases, q.ops, q.dead, q.dropped, q.waiters, q.ticks, q.paused, q.disabled,
		q.entries, q.changes, q.aside, q.enabling, q.outbox, q.parking, q.last, q.stages, q.staged,
		q.lines, q.turns, q.policy, q.opens, q.held, q.starts, q.rates)
}

// unknown reports whether a key of the queue is of no kind that is known here:
// another version may keep runs in it.
func (q *queueKeys) unknown(key string) bool {
	if slices.Contains(q.fixed, key) || key == q.aside {
		return false
	}
	switch kind, _, several := strings.Cut(strings.TrimPrefix(key, q.base), ":"); kind {
	case "flights", "leases", "ops", "dead", "dropped", "waiters", "ticks", "confirmed",
		"paused", "disabled", "enabling", "last", "outbox", "parking", "audited",
		"lines", "turns", "policy", "opens", "held", "starts", "rates":
		return several
	case "f", "d", "id", "u", "rec", "lost", "wait", "cancel", "progress", "group", "moved", "parked", "newer":
		return !several
	}
	return true
}

// reserved returns the keys that a run reserves, and a letter for each.
func (q *queueKeys) reserved(id string, ownID bool, unique string) (letters string, keys []string) {
	if ownID {
		letters, keys = "i", append(keys, q.owner(id))
	}
	if unique != "" {
		letters, keys = letters+"u", append(keys, q.unique(unique))
	}
	return letters, keys
}

// typeOf returns the type of a key of the broker as TYPE names it, "" if it is not
// known.
func typeOf(prefix, key string) string {
	if key == queuesKey(prefix) {
		return "set"
	}
	if strings.HasPrefix(key, prefix+":woken:") {
		return "list"
	}
	_, rest, ok := strings.Cut(strings.TrimPrefix(key, prefix+":{"), "}:")
	if !ok {
		return ""
	}
	kind, _, _ := strings.Cut(rest, ":")
	switch kind {
	case "io", "cpu", "f", "dead", "outbox", "wait", "watched", "staged", "stage":
		return "list"
	case "delayed", "leases", "wake", "aside", "enabling", "lines", "turns", "opens", "starts", "rates":
		return "zset"
	case "flights", "disabled":
		return "set"
	case "ops", "waiters", "ticks", "parking", "cancel", "last", "policy", "held", "group", "stages":
		return "hash"
	case "entries":
		if rest == "entries" {
			return "hash"
		}
	}
	return "string"
}
