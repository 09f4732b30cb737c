package wire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CancelField is a run's field among the cancels of its session.
func CancelField(slot int64, index int) string {
	return strconv.FormatInt(slot, 10) + ":" + strconv.Itoa(index)
}

// IsSet reads a bitmap as SETBIT writes it.
func IsSet[T string | []byte](bitmap T, i int) bool {
	return i/8 < len(bitmap) && bitmap[i/8]&(0x80>>(i%8)) != 0
}

// GlobOf is the pattern of keys that open so.
func GlobOf(opens string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(opens) + "*"
}

// KindsOfKeys are the types of a queue's keys, by what follows their hash tag, as the
// mend script takes them.
var KindsOfKeys = map[string]string{
	"delayed": "zset",
	"io:2":    "list", "io:1": "list", "io:0": "list", "cpu:2": "list", "cpu:1": "list", "cpu:0": "list",
	"idle:io": "string", "idle:cpu": "string", "wake:io": "zset", "wake:cpu": "zset",
	"watched:io": "list", "watched:cpu": "list",
	"flights": "flights", "leases": "leases", "ops": "ops",
	"dead": "list", "dropped": "count", "waiters": "hash", "ticks": "hash",
	"entries": "hash", "entries:changes": "number",
	"disabled": "set", "aside": "zset", "enabling": "zset", "outbox": "list", "parking": "hash", "last": "hash",
	"stages": "stages", "staged": "staged",
	"lines": "zset", "turns": "zset", "policy": "policy", "opens": "zset", "held": "hash", "starts": "zset", "rates": "zset",
}

// kindsOfMore are those of keys that a queue has many of, by how they open.
var kindsOfMore = map[string]string{
	"f:": "list", "d:": "string", "newer:": "string", "lost:": "string", "id:": "string", "u:": "string", "rec:": "string",
	"wait:": "list", "group:": "hash", "parked:": "string", "moved:": "string", "stage:": "list", "stub:": "string", "raised:": "set", "spared:": "string", "cancel:": "hash", "progress:": "string",
}

func KindOfMore(rest string) string {
	if i := strings.IndexByte(rest, ':'); i >= 0 {
		return kindsOfMore[rest[:i+1]]
	}
	return ""
}

// TypeOfKind is the type of the server that a kind of the mend script is.
func TypeOfKind(kind any) string {
	switch kind {
	case "number", "count", "place":
		return "string"
	case "numbers", "policy", "ops":
		return "hash"
	case "stages":
		return "hash"
	case "staged":
		return "list"
	case "flights":
		return "set"
	case "leases":
		return "zset"
	}
	s, _ := kind.(string)
	return s
}

// QueueOf returns the escaped name of the queue whose keys open so.
func QueueOf(base string) string {
	name := strings.TrimSuffix(base, "}:")
	return name[strings.LastIndexByte(name, '{')+1:]
}

// Unescape undoes escape.
func Unescape(name string) string {
	return strings.NewReplacer("%7B", "{", "%7D", "}", "%3A", ":", "%25", "%").Replace(name)
}

// OwnerOf returns the id of the run that a unique key names, "" if it has ended.
func OwnerOf(value any) string {
	text, _ := value.(string)
	for i := range len(text) {
		if text[i] == ' ' {
			return text[:i]
		}
	}
	return ""
}

// QueuesKey names the set of all queues' names.
func QueuesKey(prefix string) string { return prefix + ":queues" }

// WokenKey names the list by which consumers of several queues are woken for runs of a
// kind.
func WokenKey(prefix string, kind int) string {
	return prefix + [2]string{":woken:io", ":woken:cpu"}[kind]
}

// QueueKeys are the keys of one queue.
type QueueKeys struct {
	Name    string
	Base    string // opens all its keys, and ends with a colon
	Fixed   []string
	Delayed string
	Ready   []string // io high, medium, low, cpu high, medium, low
	Wake    []string // io, cpu
	Watched []string // io, cpu: who takes from several queues is woken by what is there
	Flights string
	Leases  string
	Ops     string
	Dead    string
	Dropped string
	Waiters string
	Ticks   string

	Paused   string
	Disabled string
	Entries  string
	Changes  string
	Aside    string
	Enabling string
	Outbox   string
	Parking  string
	Last     string
	Stages   string // calls that are not moved into the queue yet
	Staged   string // those of them that are committed

	// What runs with limits or a fair value need (lines.lua, turns.lua).
	Lines, Turns, Policy, Opens, Held, Starts, Rates string
	Audited                                          string
}

// NewQueueKeys returns the keys of a queue.
func NewQueueKeys(prefix, name string) QueueKeys {
	base := prefix + ":{" + escape(name) + "}:"
	q := QueueKeys{
		Name:    name,
		Base:    base,
		Delayed: base + "delayed",
		Flights: base + "flights",
		Leases:  base + "leases",
		Ops:     base + "ops",
		Dead:    base + "dead",
		Dropped: base + "dropped",
		Waiters: base + "waiters",
		Ticks:   base + "ticks",

		Paused:   base + "paused",
		Disabled: base + "disabled",
		Entries:  base + "entries",
		Changes:  base + "entries:changes",
		Aside:    base + "aside",
		Enabling: base + "enabling",
		Outbox:   base + "outbox",
		Parking:  base + "parking",
		Last:     base + "last",
		Stages:   base + "stages",
		Staged:   base + "staged",

		Lines:   base + "lines",
		Turns:   base + "turns",
		Policy:  base + "policy",
		Opens:   base + "opens",
		Held:    base + "held",
		Audited: base + "audited",
		Starts:  base + "starts",
		Rates:   base + "rates",
	}
	q.Fixed = []string{
		q.Delayed,
		base + "io:2", base + "io:1", base + "io:0",
		base + "cpu:2", base + "cpu:1", base + "cpu:0",
		base + "idle:io", base + "idle:cpu",
		base + "wake:io", base + "wake:cpu",
	}
	q.Ready, q.Wake = q.Fixed[1:7], q.Fixed[9:11]
	q.Watched = []string{base + "watched:io", base + "watched:cpu"}
	return q
}

// FlightsOf returns of a queue's keys no more than it takes to find its node.
func FlightsOf(prefix, name string) QueueKeys {
	return QueueKeys{Name: name, Flights: prefix + ":{" + escape(name) + "}:flights"}
}

// Keys starts the KEYS of a script: those that nearly all of them have, and
// more.
func (q *QueueKeys) Keys(more ...string) []string {
	return append(q.Fixed[:len(q.Fixed):len(q.Fixed)], more...)
}

func (q *QueueKeys) Batch(member string) string { return q.Base + "f:" + member }

func (q *QueueKeys) Done(member string) string { return q.Base + "d:" + member }

func (q *QueueKeys) Lost(session string) string { return q.Base + "lost:" + session }

func (q *QueueKeys) Raised(session string) string { return q.Base + "raised:" + session }

func (q *QueueKeys) Spared(id string) string { return q.Base + "spared:" + id }

func (q *QueueKeys) Owner(id string) string { return q.Base + "id:" + id }

func (q *QueueKeys) Record(id string) string { return q.Base + "rec:" + id }

func (q *QueueKeys) Cancels(session string) string { return q.Base + "cancel:" + session }

func (q *QueueKeys) Progress(id string) string { return q.Base + "progress:" + id }

func (q *QueueKeys) Parked(id string) string { return q.Base + "parked:" + id }

func (q *QueueKeys) Group(id string) string { return q.Base + "group:" + id }

func (q *QueueKeys) Ended(instance string) string { return q.Base + "wait:" + instance }

func (q *QueueKeys) Newer(id string) string { return q.Base + "newer:" + id }

func (q *QueueKeys) Unique(key string) string { return q.Base + "u:" + key }

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

func (q *QueueKeys) Staging(token string) string { return q.Base + token }

// Stub is the key by which a repeated commit learns that all was moved.
func (q *QueueKeys) Stub(token string) string {
	return q.Base + "stub:" + strings.TrimPrefix(token, StageOpens)
}

// Waits returns the keys of runs that wait, the way they move.
func (q *QueueKeys) Waits() []string { return append([]string{q.Aside}, q.Fixed[:7]...) }

// LinePrefix is how many bytes of an entry of the lines come before its element.
const LinePrefix = 49

// ElementOf returns the element of an entry of one of the queue's keys.
func (q *QueueKeys) ElementOf(key, entry string) string {
	if key == q.Lines {
		return entry[min(LinePrefix, len(entry)):]
	}
	return entry
}

// All returns the keys that a queue has one of.
func (q *QueueKeys) All() []string {
	return q.Keys(q.Flights, q.Leases, q.Ops, q.Dead, q.Dropped, q.Waiters, q.Ticks, q.Paused, q.Disabled,
		q.Entries, q.Changes, q.Aside, q.Enabling, q.Outbox, q.Parking, q.Last, q.Stages, q.Staged,
		q.Lines, q.Turns, q.Policy, q.Opens, q.Held, q.Starts, q.Rates)
}

// Unknown reports whether a key of the queue is of no kind that is known here:
// another version may keep runs in it.
func (q *QueueKeys) Unknown(key string) bool {
	if slices.Contains(q.Fixed, key) || key == q.Aside {
		return false
	}
	switch kind, _, several := strings.Cut(strings.TrimPrefix(key, q.Base), ":"); kind {
	case "flights", "leases", "ops", "dead", "dropped", "waiters", "ticks", "confirmed",
		"paused", "disabled", "enabling", "last", "outbox", "parking", "audited",
		"lines", "turns", "policy", "opens", "held", "starts", "rates":
		return several
	case "f", "d", "id", "u", "rec", "lost", "wait", "cancel", "progress", "group", "moved", "parked", "newer":
		return !several
	}
	return true
}

// ReservedBy returns the keys that a run reserves, and a letter for each.
func (q *QueueKeys) ReservedBy(id string, ownID bool, unique string) (letters string, keys []string) {
	if ownID {
		letters, keys = "i", append(keys, q.Owner(id))
	}
	if unique != "" {
		letters, keys = letters+"u", append(keys, q.Unique(unique))
	}
	return letters, keys
}

// TypeOf returns the type of a key of the broker as TYPE names it, "" if it is not
// known.
func TypeOf(prefix, key string) string {
	if key == QueuesKey(prefix) {
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

// StageOpens opens the token of a call whose runs are not moved yet, where it
// owns an id or a unique key.
const StageOpens = "stage:"
