package conn

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// IsTransient reports whether the server, or the way to it, refused a command
// that may go through a moment later, and certainly did not execute it.
func IsTransient(err error) bool {
	for _, prefix := range []string{
		"LOADING", "BUSY ", "MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "NOREPLICAS", "MISCONF",
		"ERR max number of clients",
	} {
		if goredis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return IsUnsent(err)
}

// MayRepeat allows a command to be executed again after any failure that may
// pass.
func MayRepeat(err error) bool { return IsTransient(err) || IsUnknown(err) }

// unsentError is the error of a command that was not even begun.
type unsentError struct{ error }

func (u unsentError) Unwrap() error { return u.error }

// IsUnsent reports whether an error says that the server cannot have executed
// the command: it never got all of it.
func IsUnsent(err error) bool {
	var own unsentError
	if errors.Is(err, errPartlySent) {
		return false
	}
	if errors.As(err, &own) || errors.Is(err, goredis.ErrPoolTimeout) || errors.Is(err, goredis.ErrPoolExhausted) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "write")
}

// IsUnknown reports whether an error leaves open if the server executed the
// command. What the server itself replied never does.
func IsUnknown(err error) bool {
	var reply goredis.Error
	if err == nil || errors.As(err, &reply) || errors.Is(err, goredis.ErrClosed) {
		return false
	}
	return !IsUnsent(err)
}

// errPartlySent marks a write that was cut off: it hides from notSent that it was
// one.
var errPartlySent = errors.New("the connection broke while it was sent")

// dialError is why there is no connection.
type dialError struct{ error }

func (u dialError) Unwrap() error { return u.error }

// IsWrongType reports whether the server refused a command for the type of a key,
// in the command itself or in a script.
func IsWrongType(err error) bool {
	return goredis.HasErrorPrefix(err, "WRONGTYPE") || err != nil && strings.Contains(err.Error(), "WRONGTYPE")
}

// IsDamage reports whether the server refused a command, or a script failed, because
// of what it found in a key. A script that goes on behind an error hands its text on, bare,
// or behind ERR and where it was raised.
func IsDamage(err error) bool {
	var reply goredis.Error
	if !errors.As(err, &reply) {
		return false
	}
	text := reply.Error()
	if strings.HasPrefix(text, "WRONGTYPE") || strings.HasPrefix(text, "user_script") {
		return true
	}
	return strings.HasPrefix(text, "ERR") &&
		(strings.Contains(text, "user_script") || strings.Contains(text, "WRONGTYPE") || strings.Contains(text, "is not an integer"))
}

// IsRedirect reports whether the server replied that a queue cannot be used just now,
// which says nothing of its others: some of its keys are on their way to another node.
func IsRedirect(err error) bool {
	return goredis.HasErrorPrefix(err, "TRYAGAIN") || goredis.HasErrorPrefix(err, "MOVED ") || goredis.HasErrorPrefix(err, "ASK ")
}

// IsUnreachable reports whether an error says that a server was not reached, has not
// replied or cannot work, so that the other commands for it fare no better.
func IsUnreachable(err error) bool {
	var network net.Error
	return err != nil && (IsTransient(err) || errors.As(err, &network) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded))
}

// ContextErr is ctx.Err, but true to the deadline: a connection's deadline can pass
// a moment before the context's timer fires.
func ContextErr(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

func IsLoading(err error) bool {
	if err == nil || errors.Is(err, broker.ErrOutcomeUnknown) {
		return false
	}
	return goredis.HasErrorPrefix(err, "LOADING") || goredis.HasErrorPrefix(err, "MASTERDOWN")
}
