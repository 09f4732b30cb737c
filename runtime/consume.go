package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/taskgen/taskgen/internal/risks"
	"github.com/taskgen/taskgen/internal/sigpipe"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// Run takes and executes runs, and blocks until it has stopped. When ctx ends it takes no
// more runs. It lets those that execute go on for up to Grace, then cancels their contexts,
// and gives back what has not ended. It returns nil after a complete stop, and an error
//
//   - if the broker cannot be reached at the start,
//   - if tasks ignore the end of their contexts,
//   - if outcomes cannot be recorded: their runs may start again,
//   - if the consumer runs already.
//
// Until Run returns, a write to a closed standard output or error does not end the process
// with SIGPIPE, as it would other Go programs.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("run consumer: it runs already")
	}
	defer c.running.Store(false)
	if !subprocess.InTest() { // whose goroutine of os/signal could be in a bubble of synctest for ever
		defer sigpipe.Drop()()
	}
	if client, err := clientOf(ctx); err == nil && ctx.Value(clientKey{}) != nil {
		c.client = client
	}
	if hint := c.cfg.StopHint; hint != "" {
		c.stopHint = func() string {
			if ctx.Err() == nil {
				return "" // it stops by itself
			}
			return " (" + hint + ")"
		}
	}
	c.cfg.Codec.setDefaults(c.cfg.MaxPayload, c.client.maxPayload)
	handler, err := surrounded(c.cfg.Middleware)
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	children := c.cfg.Children.pool(c.cfg.Processes, c.cfg.Logger, c.cfg.grants)
	children.Call, children.Schema = serveCalls(c.client), c.tasks.childSchema()
	children.Kills = &c.children.kills
	pool, err := subprocess.NewPool(children)
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	c.children.pool.Store(pool)
	defer c.children.pool.Store(nil)
	watching, stopWatching := context.WithCancel(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { risks.Watch(watching, c.broker, c.risksEvery, c.logger) })
	withdraw := c.announce(ctx, &loops)
	err = c.worker.Run(ctx, &executor{Consumer: c, pool: pool, handler: handler, offers: offers{client: c.client, broker: c.broker, logger: c.logger, bounded: true}})
	stopWatching()
	withdraw()
	c.events.drain()
	closePool(ctx, pool, c.logger)
	loops.Wait()
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	return nil
}

// closePool ends the children. Their runs have ended, so killing one that does not exit by
// itself loses nothing.
func closePool(ctx context.Context, pool *subprocess.Pool, logger *slog.Logger) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), childGrace)
	defer cancel()
	if err := pool.Close(closing); err != nil {
		logger.Debug("child processes did not end by themselves", "error", err)
	}
}
