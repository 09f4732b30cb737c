package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// A server that was started again reads its files first, for seconds or
// minutes, and refuses all commands meanwhile.
const (
	// loadPatience is how many times Config.Timeout a call without a deadline
	// waits for that.
	loadPatience = 10
	loadNap      = 100 * time.Millisecond // between two tries
)

// whileLoading repeats a call as long as its server is not there yet, or not yet
// the master, and says so. With that reply it has done nothing. A call of which an
// earlier command may have been executed is not repeated.
func (b *Broker) whileLoading(ctx context.Context, call func() error) error {
	var reply goredis.Error
	for start := time.Now(); ; {
		err := call()
		if reply != nil && ctxErr(ctx) != nil && !notYet(err) && err != nil {
			return fmt.Errorf("%w: %w", err, reply) // why the time was not enough
		}
		if !notYet(err) || !errors.As(err, &reply) || time.Since(start) > loadPatience*b.cfg.Timeout || !b.pause(ctx, loadNap) {
			return err
		}
	}
}

func notYet(err error) bool {
	if err == nil || errors.Is(err, broker.ErrOutcomeUnknown) {
		return false
	}
	return goredis.HasErrorPrefix(err, "LOADING") || goredis.HasErrorPrefix(err, "MASTERDOWN")
}
