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

// IsTransient reports whether a command certainly was not executed and may go through a
// moment later: the server refused it for now, or never got it.
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

// IsReply reports whether err is a reply of the server. The reply that a key is missing
// counts too.
func IsReply(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply)
}

// IsRefusal reports whether the server replied an error with this code, such as OOM.
func IsRefusal(err error, code string) bool { return goredis.HasErrorPrefix(err, code) }

// MayRepeat reports whether an idempotent command may be executed again.
func MayRepeat(err error) bool { return IsTransient(err) || IsUnknown(err) }

// unsentError is the error of a command of which nothing was sent.
type unsentError struct{ error }

func (u unsentError) Unwrap() error { return u.error }

// IsUnsent reports whether the server cannot have executed the command, as it never got
// all of it.
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

// IsUnknown reports whether the server may have executed the command. It is false for
// every error that the server replied.
func IsUnknown(err error) bool {
	if err == nil || IsReply(err) || errors.Is(err, goredis.ErrClosed) {
		return false
	}
	return !IsUnsent(err)
}

// errPartlySent marks a write that broke off: IsUnsent is false for it.
var errPartlySent = errors.New("the connection broke while it was sent")

// dialError is the error of a dial.
type dialError struct{ error }

func (u dialError) Unwrap() error { return u.error }

// IsWrongType reports whether the server refused a command, or a command of a script,
// for the type of a key.
func IsWrongType(err error) bool {
	return goredis.HasErrorPrefix(err, "WRONGTYPE") || err != nil && strings.Contains(err.Error(), "WRONGTYPE")
}

// IsDamage reports whether a command or a script failed because of the value of a key.
// A script that catches such an error hands its text on, bare or behind ERR and a
// position.
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

// IsRedirect reports whether the server replied that a key is moving to another node.
// This says nothing of other keys on its node.
func IsRedirect(err error) bool {
	return goredis.HasErrorPrefix(err, "TRYAGAIN") || goredis.HasErrorPrefix(err, "MOVED ") || goredis.HasErrorPrefix(err, "ASK ")
}

// IsUnreachable reports whether the server was not reached, has not replied or cannot
// work now, so that its other commands would fail as well.
func IsUnreachable(err error) bool {
	var network net.Error
	return err != nil && (IsTransient(err) || errors.As(err, &network) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded))
}

// ContextErr is ctx.Err, and also true to the deadline: a connection's deadline can
// pass a moment before the context's timer fires.
func ContextErr(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// IsLoading reports whether the server is loading, or not yet the master.
func IsLoading(err error) bool {
	if err == nil || errors.Is(err, broker.ErrOutcomeUnknown) {
		return false
	}
	return goredis.HasErrorPrefix(err, "LOADING") || goredis.HasErrorPrefix(err, "MASTERDOWN")
}

// IsClosed reports whether the client was closed.
func IsClosed(err error) bool { return errors.Is(err, goredis.ErrClosed) }
