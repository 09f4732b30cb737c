package script

import (
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// QueueInfoKeys returns the keys of a queue that queueinfo.lua reads.
func QueueInfoKeys(q *wire.QueueKeys) []string {
	return append(q.Fixed[:7:7], q.InFlight, q.Paused, q.Disabled, q.Deferred, q.Backlogs, q.Dead, q.Trimmed, q.Last, q.Staged, q.Rounds, q.Running, q.Starts, q.Limits)
}

// QueueInfoArgs are the named arguments of queueinfo.lua.
type QueueInfoArgs struct {
	Parts                    int // 1: all; 0: only the counts
	Bytes, Batches, Backlogs int
}

// Append appends them in their order.
func (a *QueueInfoArgs) Append(args []any) []any {
	return append(args, a.Parts, a.Bytes, a.Batches, a.Backlogs)
}

// QueueInfo is what queueinfo.lua says of one queue.
type QueueInfo struct {
	Staged, Paused  bool
	Dead, Trimmed   int64
	Due, Later      int64 // delayed runs that are due, and others
	Ready           [6]int64
	Deferred, Held  int64
	Running         int64 // -1: unknown
	FirstDue        int64 // of the due delayed runs, ms since the epoch; 0: there is none
	Whole           bool  // Heads and Limits are not cut short
	Disabled, Heads []string
	Last            map[string]string
	Limits          []HeldLimit
	Odd             []string // errors of what cannot be read
}

// Queued is how many runs of the queue are due and wait.
func (q *QueueInfo) Queued() int64 {
	sum := q.Due + q.Deferred + q.Held
	for _, n := range q.Ready {
		sum += n
	}
	return sum
}

// HeldLimit is a limit that keeps runs back.
type HeldLimit struct {
	Key                     string
	Max, Per, Used, Waiting int64  // Per in microseconds
	Stored                  string // one of the runs that wait; empty: it is large
}

// ParseQueueInfos parses the reply of queueinfo.lua for n queues.
func ParseQueueInfos(v any, n int) ([]QueueInfo, error) {
	reply, err := arrayOf("queueinfo", v, n)
	if err != nil {
		return nil, err
	}
	infos := make([]QueueInfo, n)
	for i := range infos {
		if err := infos[i].parse(reply[i]); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

func (q *QueueInfo) parse(v any) error {
	parts, err := arrayOf("queueinfo", v, 6)
	if err != nil {
		return err
	}
	list, _ := parts[0].([]any)
	if len(list) != 17 {
		return fmt.Errorf("unexpected reply of %d numbers of queueinfo.lua", len(list))
	}
	var ns [17]int64
	for i, n := range list {
		ns[i] = number(n)
	}
	q.Staged, q.Paused, q.Dead, q.Trimmed, q.Due, q.Later = ns[0] > 0, ns[1] > 0, ns[2], ns[3], ns[4], ns[5]
	copy(q.Ready[:], ns[6:12])
	q.Deferred, q.Held, q.Running, q.FirstDue, q.Whole = ns[12], ns[13], ns[14], ns[15], ns[16] == 1
	q.Disabled, q.Heads, q.Odd = texts(parts[1]), texts(parts[3]), texts(parts[5])
	last := texts(parts[2])
	q.Last = make(map[string]string, len(last)/2)
	for i := 0; i+1 < len(last); i += 2 {
		q.Last[last[i]] = last[i+1]
	}
	limits, _ := parts[4].([]any)
	for i := 0; i+5 < len(limits); i += 6 {
		q.Limits = append(q.Limits, HeldLimit{
			text(limits[i]), number(limits[i+1]), number(limits[i+2]), number(limits[i+3]), number(limits[i+4]), text(limits[i+5]),
		})
	}
	return nil
}
