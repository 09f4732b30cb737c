package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	sampleEvery     = 10 * time.Second
	maxSampledKinds = 200 // a queue may hold runs of any number of unknown tasks
)

// sampledLogger logs what can happen to thousands of runs in the same way. It logs the
// first line of a message and task at once, and every sampleEvery the number of the
// others. Between Stop and Start it logs each line.
type sampledLogger struct {
	logger *slog.Logger

	mu     sync.Mutex
	counts map[sampledKind]*sampledCount // nil: stopped
}

type sampledKind struct {
	level         slog.Level
	message, task string
}

// sampledCount counts the lines since the last one that was logged.
type sampledCount struct {
	runs int
	last string // the id of the last run
	next *time.Timer
}

// Log logs a line about a run.
func (l *sampledLogger) Log(level slog.Level, message string, run *broker.TaskRun, attrs ...any) {
	if l.isFirst(level, message, run) {
		l.logger.Log(context.Background(), level, message, append([]any{"task", run.Task, "run", run.ID, "queue", run.Queue}, attrs...)...)
	}
}

// isFirst reports whether no line of the kind was logged lately. Else it counts the
// line.
func (l *sampledLogger) isFirst(level slog.Level, message string, run *broker.TaskRun) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		return true
	}
	kind := sampledKind{level, message, run.Task}
	count := l.counts[kind]
	if count == nil && len(l.counts) >= maxSampledKinds {
		kind.task = "" // of all tasks that are too many
		count = l.counts[kind]
	}
	if count != nil {
		count.runs, count.last = count.runs+1, run.ID
		return false
	}
	l.counts[kind] = &sampledCount{next: time.AfterFunc(sampleEvery, func() { l.logCount(kind) })}
	return true
}

// logCount logs how many lines were counted, and is called again while there are more.
func (l *sampledLogger) logCount(kind sampledKind) {
	l.mu.Lock()
	count := l.counts[kind]
	if count == nil { // stopped since the timer fired
		l.mu.Unlock()
		return
	}
	logged := *count
	if logged.runs == 0 {
		delete(l.counts, kind)
	} else {
		count.runs = 0
		count.next.Reset(sampleEvery)
	}
	l.mu.Unlock()
	l.log(kind, logged)
}

// log logs without the lock, because the application's logger may do anything.
func (l *sampledLogger) log(kind sampledKind, count sampledCount) {
	if count.runs == 0 {
		return
	}
	task := kind.task
	if task == "" {
		task = "several"
	}
	l.logger.Log(context.Background(), kind.level, kind.message, "task", task, "more_runs", count.runs, "last", count.last)
}

// Start starts the counting.
func (l *sampledLogger) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts = make(map[sampledKind]*sampledCount)
}

// Stop logs what was counted, and ends the counting.
func (l *sampledLogger) Stop() {
	l.mu.Lock()
	counts := l.counts
	l.counts = nil
	l.mu.Unlock()
	for kind, count := range counts {
		count.next.Stop()
		l.log(kind, *count)
	}
}
