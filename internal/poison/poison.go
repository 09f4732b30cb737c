// Package poison has what a broker's sessions can do so that consumers find the run
// that kills their processes, and spare those that were in flight beside it. The
// runtime finds it by assertion on the session. It is no part of the contract of
// package broker: without it each death counts for every run that was in flight.
package poison

import (
	"context"

	"github.com/taskgen/taskgen/broker"
)

// Tracker is a session that records which of the runs that came back from a dead
// session have begun again. Methods may be called concurrently.
type Tracker interface {
	// Begin records that a run which came back is about to begin. If the session dies
	// before Begin, the next recovery leaves the run's Deliveries as they are, at most
	// some fifteen times in a row. It returns false if the session holds the run no
	// longer; the run must not begin then. Repeating it is safe.
	Begin(ctx context.Context, run *broker.TaskRun) (held bool, err error)

	// Suspect reports whether a recovery gave the run back, and whether Clear had been
	// called for it before. It does not block.
	Suspect(run *broker.TaskRun) (suspect, cleared bool)

	// Clear records that other runs begin beside a run from now on: if the session
	// dies, the next recovery leaves the run's Deliveries as they are. Repeating it is
	// safe.
	Clear(ctx context.Context, run *broker.TaskRun) error
}

// Survivor is a session to which a consumer reports that it lives although its lease
// ended. A pause of the process, or an outage of the broker, is no death, and does not
// count as one. Methods may be called concurrently.
type Survivor interface {
	// Survived notes of each run that recoveries have taken from the session so far
	// that one of its Deliveries was no death, once for each recovery; and of the runs
	// given, which the session itself gave back after it had lost its lease. Without
	// runs, repeating it is safe.
	Survived(ctx context.Context, back ...*broker.TaskRun) error

	// Spared returns how many of a run's Deliveries ended with a lease but not with the
	// life of a consumer.
	Spared(ctx context.Context, run *broker.TaskRun) (int, error)
}
