// Package worker takes runs from a broker, has them executed and reports their
// outcomes. It knows runs and outcomes, but no functions: an [Executor] calls those.
//
// A [Worker] keeps a session with the broker, and opens another if it loses its lease.
// In a session
//
//   - fetch.go takes runs while there is capacity, and slots.go executes them,
//   - outcomes.go and record.go bring their outcomes to the broker,
//   - renew.go keeps the lease, heartbeat.go reports progress and cancels runs,
//   - trial.go executes a run alone that may have killed its consumer,
//   - drain.go ends a session whose lease is lost.
//
// Beside the sessions, recover.go gives back what dead consumers hold, audit.go and
// damage.go repair the broker's queues, deadage.go deletes old dead letters and
// discover.go finds queues by patterns.
package worker
