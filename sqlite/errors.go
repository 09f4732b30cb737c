package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/taskgen/taskgen/broker"
)

// Result codes of SQLite, of which the low byte is the kind.
const (
	codeBusy   = 5
	codeLocked = 6
	codeFull   = 13
)

// explain returns the error of a statement as package broker has it.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch code(err) {
	case codeBusy, codeLocked:
		return fmt.Errorf("another process writes to the file for long: %w: %w", broker.ErrUnavailable, err)
	case codeFull:
		return fmt.Errorf("the disk is full: %w: %w", broker.ErrQueueFull, err)
	}
	return err
}

// code returns the result code of an error of this package's driver or another, 0 if it has
// none.
func code(err error) int {
	var own *sqlite3.Error
	if errors.As(err, &own) {
		return int(own.Code())
	}
	var short sqlite3.ErrorCode
	if errors.As(err, &short) {
		return int(short)
	}
	var other interface{ Code() int }
	if errors.As(err, &other) {
		return other.Code() & 0xff
	}
	return 0
}
