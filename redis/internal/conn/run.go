package conn

import (
	"bufio"
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// Once is a command that go-redis must not repeat.
type Once struct{ *goredis.Cmd }

func (Once) NoRetry() bool { return true }

// Reader reads one reply. Its value may be a [resp.Error].
type Reader func(in *bufio.Reader) (any, error)

func ReadAny(in *bufio.Reader) (any, error) { return resp.ReadReply(in, 0) }

// Run executes a script by its digest. If the server does not know the digest, it has
// executed nothing, and Run sends the source. Run returns a grace time after the end of
// ctx, with an error of which IsUnknown is true.
func (c *Clients) Run(ctx context.Context, s script.Script, l Client, read Reader, then *Confirmation, keys []string, args []any) (any, error) {
	send := func(name, what string) (any, error) {
		if !l.Direct() {
			return WithGrace(ctx, c, func(ctx context.Context) (any, error) { return sendByLibrary(ctx, l.library, name, what, keys, args) })
		}
		return l.Exec(ctx, keys[0], s.Encode(name, what, keys, args), read, then)
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
	cmd := Once{goredis.NewCmd(ctx, line...)}
	cmd.SetFirstKeyPos(3)
	if err := c.Process(ctx, cmd); err != nil && !errors.Is(err, goredis.Nil) {
		return nil, err
	}
	return cmd.Val(), nil
}
