package runtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	noticeEvery = 10 * time.Second
	maxNotices  = 200 // names of unknown tasks are anybody's
)

// notices are what is logged of runs that do not start or end here, which can
// happen to thousands in the same way: the first of a kind and task at once, with
// all that is known of it, and the others every ten seconds as a number.
type notices struct {
	logger *slog.Logger

	mu     sync.Mutex
	open   bool
	counts map[noticeKind]*noticeCount
}

type noticeKind struct {
	level         slog.Level
	message, task string
}

// noticeCount is how many there were since the last line.
type noticeCount struct {
	runs int
	last string // id of one
	next *time.Timer
}

func (n *notices) say(level slog.Level, message string, run *broker.TaskRun, attrs ...any) {
	if n.isNew(level, message, run) {
		n.logger.Log(context.Background(), level, message, append([]any{"task", run.Task, "run", run.ID, "queue", run.Queue}, attrs...)...)
	}
}

// isNew reports whether nothing of the kind was logged lately, else it counts.
func (n *notices) isNew(level slog.Level, message string, run *broker.TaskRun) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.open {
		return true
	}
	kind := noticeKind{level, message, run.Task}
	count := n.counts[kind]
	if count == nil && len(n.counts) >= maxNotices {
		kind.task = "" // of any that are too many
		count = n.counts[kind]
	}
	if count != nil {
		count.runs, count.last = count.runs+1, run.ID
		return false
	}
	n.counts[kind] = &noticeCount{next: time.AfterFunc(noticeEvery, func() { n.sum(kind) })}
	return true
}

// sum logs how many there were, and that again while there are more.
func (n *notices) sum(kind noticeKind) {
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
		count.next.Reset(noticeEvery)
	}
	n.mu.Unlock()
	n.log(kind, told)
}

// log does so without the lock: what the logger does is the application's.
func (n *notices) log(kind noticeKind, count noticeCount) {
	if count.runs == 0 {
		return
	}
	task := kind.task
	if task == "" {
		task = "several"
	}
	n.logger.Log(context.Background(), kind.level, kind.message, "task", task, "more_runs", count.runs, "last", count.last)
}

// begin has them counted from now on.
func (n *notices) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open, n.counts = true, make(map[noticeKind]*noticeCount)
}

// end logs what was counted. What comes later is logged as it comes.
func (n *notices) end() {
	n.mu.Lock()
	counts := n.counts
	n.open, n.counts = false, nil
	n.mu.Unlock()
	for kind, count := range counts {
		count.next.Stop()
		n.log(kind, *count)
	}
}
