package runtime

import (
	"context"
	"errors"

	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/worker"
)

// AttemptError is for a [Middleware] that observes runs. It returns how the attempt failed
// that ctx belongs to and that ended with err. It returns nil if the attempt did not fail:
// err is nil, or the run goes back to its queue without a failure, because the task snoozed
// it, the consumer stops or has lost its lease, or the run could not start here.
//
// The error is bounded in size and shows no secret value. It does not tell whether another
// attempt follows, which is decided after the middleware.
func AttemptError(ctx context.Context, err error) *RunError {
	if err == nil {
		return nil
	}
	x, _ := ctx.Value(progressKey{}).(*runContext)
	if x == nil { // outside of a run
		return attemptError(ctx, new(Run), nil, err)
	}
	return attemptError(x, x.asked(), x.secrets, err)
}

// attemptError calls methods of the error, which are the application's: if one panics, the
// panic becomes the error.
func attemptError(ctx context.Context, run *Run, secrets *secret.Run, err error) (e *RunError) {
	defer func() {
		if v := recover(); v != nil {
			e = newAttemptError(ctx, run, secrets, newBrokenError(err, v))
		}
	}()
	kind, failed := kindOfEnd(ctx, err)
	if !failed {
		return nil
	}
	e = newAttemptError(ctx, run, secrets, err)
	if kind != "" {
		e.Kind = kind
	}
	return e
}

func newAttemptError(ctx context.Context, run *Run, secrets *secret.Run, err error) *RunError {
	f := failureOf(ctx, secrets, err)
	e := &RunError{Task: run.Task, ID: run.ID, Kind: f.Kind, Attempt: run.Attempt, Message: f.Message, Stack: f.Stack}
	if e.Kind == Crashed {
		e.Attempt-- // it came to no end
	}
	return e
}

// kindOfEnd reports whether an attempt that ended with err failed, and as what if that is
// not in err. It follows execution.decide.
func kindOfEnd(ctx context.Context, err error) (kind FailureKind, failed bool) {
	wait := snoozed(err)
	if ctx.Err() != nil {
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, worker.ErrLeaseLost), errors.Is(cause, worker.ErrStopping) && wait == 0:
			return "", false
		case errors.Is(cause, ErrCancelled):
			return Cancelled, true
		}
	}
	start, unread := (*subprocess.StartError)(nil), (*gatherError)(nil)
	if wait > 0 || errors.As(err, &start) || errors.As(err, &unread) || errors.Is(err, subprocess.ErrClosed) {
		return "", false
	}
	return "", true
}

type serverKey struct{}

// server is a broker that is one server, or is reached by one.
type server interface {
	// Server returns the name or address of the server and its port. A unix socket is an
	// absolute path and port 0. An empty address: there is no such server.
	Server() (address string, port int)
}

// BrokerServer is for middleware that observes runs. It returns the address and the port of
// the server on which the runs are queued, in a [QueueMiddleware], or from which they were
// taken, in a [Middleware]. A unix socket is a path and port 0. The address is empty if
// the broker has no method Server() (address string, port int), as the embedded one.
func BrokerServer(ctx context.Context) (address string, port int) {
	if b, ok := ctx.Value(serverKey{}).(server); ok {
		return b.Server()
	}
	return "", 0
}

// observed returns the context in which a client's middleware queues on b.
func observed(ctx context.Context, b any) context.Context {
	if _, ok := b.(server); !ok {
		b = nil // not that of the run which queues
	}
	return context.WithValue(ctx, serverKey{}, b)
}
