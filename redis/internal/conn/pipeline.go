package conn

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// Send executes a pipeline. It returns the first error of any command.
func (c *Clients) Send(ctx context.Context, pipe Pipeline) error {
	_, err := WithGrace(ctx, c, pipe.Exec)
	return err
}

// ReadAll executes a pipeline of commands that only read. A missing key is no error.
func (c *Clients) ReadAll(ctx context.Context, pipe Pipeline) error {
	replies, err := WithGrace(ctx, c, pipe.Exec)
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

// ReadMany executes a pipeline of commands that only read, and repeats it after an
// error that may pass. It returns an error only if the server could not be asked; each
// command has its own refusal.
func (c *Clients) ReadMany(ctx context.Context, add func(pipe Pipeline)) error {
	return c.Retry(ctx, MayRepeat, func() error {
		pipe := c.Work.Pipeline()
		if add(pipe); pipe.Len() == 0 {
			return nil
		}
		replies, err := WithGrace(ctx, c, pipe.Exec)
		if err == nil || len(replies) == 0 {
			return err
		}
		for _, reply := range replies {
			var refused goredis.Error
			if err := reply.Err(); err != nil && (!errors.As(err, &refused) || IsTransient(err)) {
				return err
			}
		}
		return nil
	})
}
