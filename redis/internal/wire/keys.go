// Package wire is docs/wire.md as code: the names of a queue's keys, and the bytes that
// they hold. Its functions are pure.
package wire

import "strings"

// QueuesKey returns the key of the set of all queues' names.
func QueuesKey(prefix string) string { return prefix + ":queues" }

// WokenKey returns the list that wakes takes from several queues: one for each kind.
func WokenKey(prefix string, kind int) string {
	return prefix + [2]string{":woken:io", ":woken:cpu"}[kind]
}

// QueueKeys are the keys of one queue.
type QueueKeys struct {
	Name string
	Base string // begins each of the keys, and ends with a colon
	// Fixed are the keys that most scripts begin with.
	Fixed    []string
	Delayed  string
	Ready    []string // io high, medium, low, cpu high, medium, low
	Wake     []string // io, cpu
	Watched  []string // io, cpu: the tokens of consumers of several queues
	InFlight string
	Leases   string
	Takes    string
	Dead     string
	Trimmed  string
	Waiters  string
	// EndedSucceeded and EndedFailed list runs that have ended.
	EndedSucceeded, EndedFailed string
	Ticks                       string

	Paused    string
	Disabled  string
	Schedules string // dynamic ones
	Changes   string // how often schedules changed
	Deferred  string
	Enabling  string
	Outbox    string
	Pending   string
	Last      string
	Stages    string // large calls whose runs are not in the queue yet
	Staged    string // those of them that are committed

	// Keys of limits and fair values (backlogs.lua, roundrobin.lua).
	Backlogs, Rounds, Policy, Recheck, Running, Starts, Rates string
	Limits, Audited                                           string
}

// NewQueueKeys returns the keys of a queue.
func NewQueueKeys(prefix, name string) QueueKeys {
	base := prefix + ":{" + escape(name) + "}:"
	q := QueueKeys{
		Name:     name,
		Base:     base,
		Delayed:  base + "delayed",
		InFlight: base + "inflight",
		Leases:   base + "leases",
		Takes:    base + "takes",
		Dead:     base + "dead",
		Trimmed:  base + "trimmed",
		Waiters:  base + "waiters",

		EndedSucceeded: base + "ended:succeeded",
		EndedFailed:    base + "ended:failed",

		Ticks: base + "ticks",

		Paused:    base + "paused",
		Disabled:  base + "disabled",
		Schedules: base + "schedules",
		Changes:   base + "schedules:changes",
		Deferred:  base + "deferred",
		Enabling:  base + "enabling",
		Outbox:    base + "outbox",
		Pending:   base + "pending",
		Last:      base + "last",
		Stages:    base + "stages",
		Staged:    base + "staged",

		Backlogs: base + "backlogs",
		Rounds:   base + "rounds",
		Policy:   base + "policy",
		Recheck:  base + "recheck",
		Running:  base + "running",
		Audited:  base + "audited",
		Starts:   base + "starts",
		Rates:    base + "rates",
		Limits:   base + "limits",
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

// NodeKeys returns the keys of a queue as far as it takes to find the queue's node.
func NodeKeys(prefix, name string) QueueKeys {
	return QueueKeys{Name: name, InFlight: prefix + ":{" + escape(name) + "}:inflight"}
}

// Keys returns the keys that most scripts begin with, and more.
func (q *QueueKeys) Keys(more ...string) []string {
	return append(q.Fixed[:len(q.Fixed):len(q.Fixed)], more...)
}

// Batch returns the list of a batch's runs. A batch's name is <session>:<number>.
func (q *QueueKeys) Batch(name string) string { return q.Base + "f:" + name }

// Done returns the bitmap of the runs of a batch that have ended.
func (q *QueueKeys) Done(name string) string { return q.Base + "d:" + name }

// Lost returns the key that changes when some of a session's batches are recovered.
func (q *QueueKeys) Lost(session string) string { return q.Base + "lost:" + session }

// Raised returns the set of a session's runs whose deliveries recoveries raised.
func (q *QueueKeys) Raised(session string) string { return q.Base + "raised:" + session }

// Spared returns the key that counts the deliveries that a run is spared.
func (q *QueueKeys) Spared(id string) string { return q.Base + "spared:" + id }

// Owner returns the key by which a run with an own id lives.
func (q *QueueKeys) Owner(id string) string { return q.Base + "id:" + id }

// Record returns the key of a run's record.
func (q *QueueKeys) Record(id string) string { return q.Base + "rec:" + id }

// Cancels returns the hash of a session's runs that are to end.
func (q *QueueKeys) Cancels(session string) string { return q.Base + "cancel:" + session }

// Progress returns the key of a run's latest progress.
func (q *QueueKeys) Progress(id string) string { return q.Base + "progress:" + id }

// PendingRun returns the key of a pending run, which awaits a group.
func (q *QueueKeys) PendingRun(id string) string { return q.Base + "pending:" + id }

// Moved returns the key by which a queue knows that it has got the entry of another's outbox.
func (q *QueueKeys) Moved(token string) string { return q.Base + "moved:" + token }

// Group returns the hash of a group.
func (q *QueueKeys) Group(id string) string { return q.Base + "group:" + id }

// Ended returns the list of ended runs that an instance of the broker waits for.
func (q *QueueKeys) Ended(instance string) string { return q.Base + "wait:" + instance }

// Newer returns the key by which a run is left to consumers of a newer version.
func (q *QueueKeys) Newer(id string) string { return q.Base + "newer:" + id }

// Unique returns the key by which a run with a unique key lives.
func (q *QueueKeys) Unique(key string) string { return q.Base + "u:" + key }

// Staging returns the list of a large call's runs.
func (q *QueueKeys) Staging(token string) string { return q.Base + token }

// Stub returns the key by which a repeated commit learns that all runs were moved.
func (q *QueueKeys) Stub(token string) string {
	return q.Base + "stub:" + strings.TrimPrefix(token, StageOpens)
}

// Waits returns the keys of runs that wait, in the order in which runs move.
func (q *QueueKeys) Waits() []string { return append([]string{q.Deferred}, q.Fixed[:7]...) }

// BacklogPrefix is how many bytes of an entry of backlogs come before its stored run.
const BacklogPrefix = 49

// StoredRunOf returns the stored run of an entry of one of the queue's keys.
func (q *QueueKeys) StoredRunOf(key, entry string) string {
	if key == q.Backlogs {
		return entry[min(BacklogPrefix, len(entry)):]
	}
	return entry
}

// All returns the keys of which a queue has one.
func (q *QueueKeys) All() []string {
	return q.Keys(q.InFlight, q.Leases, q.Takes, q.Dead, q.Trimmed, q.Waiters, q.Ticks, q.Paused, q.Disabled,
		q.Schedules, q.Changes, q.Deferred, q.Enabling, q.Outbox, q.Pending, q.Last, q.Stages, q.Staged,
		q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running, q.Starts, q.Rates, q.Limits, q.EndedSucceeded, q.EndedFailed)
}

// Unknown reports whether this version does not know the purpose of a key of the queue.
// Another version may keep runs in it.
func (q *QueueKeys) Unknown(key string) bool {
	rest := strings.TrimPrefix(key, q.Base)
	switch rest {
	case "paused", "confirmed", "audited":
		return false
	}
	return KindsOfKeys[rest] == "" && KindOfMore(rest) == ""
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

// StageOpens begins the token of a large call. Where an id or a unique key is owned by
// such a token, the call is not moved yet.
const StageOpens = "stage:"
