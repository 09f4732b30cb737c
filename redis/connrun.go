package redis

import (
	"bufio"
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// once is a command that go-redis must not repeat by itself.
type once struct{ *goredis.Cmd }

func (once) NoRetry() bool { return true }

// reader reads a script's reply. What it returns instead of a value may be a
// [serverError].
type reader func(in *bufio.Reader) (any, error)

func readAny(in *bufio.Reader) (any, error) { return resp.ReadReply(in, 0) }

// runOnce executes the script by its digest, and by its source when the server does not
// know that.
func (c *clients) runOnce(ctx context.Context, s script.Script, l link, read reader, then *confirmation, keys []string, args []any) (any, error) {
	send := func(name, what string) (any, error) {
		if !l.direct() {
			return promptly(ctx, c, func(ctx context.Context) (any, error) { return sendByLibrary(ctx, l, name, what, keys, args) })
		}
		return l.exec(ctx, keys[0], s.Encode(name, what, keys, args), read, then)
	}
	v, err := send("evalsha", s.Digest)
	if err != nil && goredis.HasErrorPrefix(err, "NOSCRIPT") {
		return send("eval", s.Source)
	}
	return v, err
}

func sendByLibrary(ctx context.Context, c goredis.UniversalClient, name, what string, keys []string, args []any) (any, error) {
	line := make([]any, 0, 3+len(keys)+len(args))
	line = append(line, name, what, len(keys))
	for i := range keys {
		line = append(line, &keys[i]) // a pointer saves a copy
	}
	line = append(line, args...)
	cmd := once{goredis.NewCmd(ctx, line...)}
	cmd.SetFirstKeyPos(3)
	if err := c.Process(ctx, cmd); err != nil && !errors.Is(err, goredis.Nil) {
		return nil, err
	}
	return cmd.Val(), nil
}
