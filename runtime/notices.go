package runtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	sampleEvery     = 10 * time.Second
	maxSampledKinds = 200 // names of unknown tasks are anybody's
)

// sampledLogger is for what is logged of runs that do not start or end here, which can
// happen to thousands in the same way: the first of a kind and task at once, with
// all that is known of it, and the others every ten seconds as a number.
type sampledLogger struct {
	logger *slog.Logger

	mu     sync.Mutex
	open   bool
	counts map[sampledKind]*sampledCount
}

type sampledKind struct {
	level         slog.Level
	message, task string
}

// sampledCount is how many there were since the last line.
type sampledCount struct {
	runs int
	last string // id of one
	next *time.Timer
}

func (n *sampledLogger) Log(level slog.Level, message string, run *broker.TaskRun, attrs ...any) {
	if n.isNew(level, message, run) {
		n.logger.Log(context.Background(), level, message, append([]any{"task", run.Task, "run", run.ID, "queue", run.Queue}, attrs...)...)
	}
}

// isNew reports whether nothing of the kind was logged lately, else it counts.
func (n *sampledLogger) isNew(level slog.Level, message string, run *broker.TaskRun) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.open {
		return true
	}
	kind := sampledKind{level, message, run.Task}
	count := n.counts[kind]
	if count == nil && len(n.counts) >= maxSampledKinds {
		kind.task = "" // of any that are too many
		count = n.counts[kind]
	}
	if count != nil {
		count.runs, count.last = count.runs+1, run.ID
		return false
	}
	n.counts[kind] = &sampledCount{next: time.AfterFunc(sampleEvery, func() { n.sum(kind) })}
	return true
}

// sum logs how many there were, and that again while there are more.
func (n *sampledLogger) sum(kind sampledKind) {
	n.mu.Lock()
	count := n.counts[kind]
	if count == nil { // closed meanwhile
		n.mu.Unlock()
		return
	}
	told := *count
	if told.runs == 0 {
		delete(n.counts, kind)
	} else {
		count.runs = 0
		count.next.Reset(sampleEvery)
	}
	n.mu.Unlock()
	n.log(kind, told)
}

// log does so without the lock: what the logger does is the application's.
func (n *sampledLogger) log(kind sampledKind, count sampledCount) {
	if count.runs == 0 {
		return
	}
	task := kind.task
	if task == "" {
		task = "several"
	}
	n.logger.Log(context.Background(), kind.level, kind.message, "task", task, "more_runs", count.runs, "last", count.last)
}

// Start has them counted from now on.
func (n *sampledLogger) Start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open, n.counts = true, make(map[sampledKind]*sampledCount)
}

// Stop logs what was counted. What comes later is logged as it comes.
func (n *sampledLogger) Stop() {
	n.mu.Lock()
	counts := n.counts
	n.open, n.counts = false, nil
	n.mu.Unlock()
	for kind, count := range counts {
		count.next.Stop()
		n.log(kind, *count)
	}
}
