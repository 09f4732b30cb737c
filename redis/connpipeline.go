package redis

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// readAll executes a pipeline of commands that only read. That a key is missing
// is no error.
func (c *clients) readAll(ctx context.Context, pipe goredis.Pipeliner) error {
	replies, err := promptly(ctx, c, pipe.Exec)
	if err != goredis.Nil { //nolint:errorlint // the library returns it as it is
		return err
	}
	for _, reply := range replies { // the first error may hide another
		if err := reply.Err(); err != nil && err != goredis.Nil { //nolint:errorlint // as above
			return err
		}
	}
	return nil
}

// readMany executes a pipeline that only reads. It returns an error where the server
// could not be asked: what it refused is for each command to say.
func (c *clients) readMany(ctx context.Context, add func(pipe goredis.Pipeliner)) error {
	return c.persist(ctx, idempotent, func() error {
		pipe := c.work.Pipeline()
		if add(pipe); pipe.Len() == 0 {
			return nil
		}
		replies, err := promptly(ctx, c, pipe.Exec)
		if err == nil || len(replies) == 0 {
			return err
		}
		for _, reply := range replies {
			var refused goredis.Error
			if err := reply.Err(); err != nil && (!errors.As(err, &refused) || transient(err)) {
				return err
			}
		}
		return nil
	})
}
