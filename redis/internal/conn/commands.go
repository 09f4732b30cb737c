package conn

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Commands sends commands by go-redis, to a server or to the node of a cluster that has the
// key. Each method is the command of its name, and returns a grace time after the end of
// ctx, as [WithGrace] does. A key or field that is not there is an error of which
// [IsMissing] is true, where the command has no other reply for it. The methods may be
// called concurrently.
type Commands struct {
	c       *Clients
	library goredis.UniversalClient
}

// Pipeline collects commands that are sent together, by [Clients.Send], [Clients.ReadAll]
// or [Clients.ReadMany].
type Pipeline = goredis.Pipeliner

// Reply is the reply to a command of a pipeline, after that was sent.
type Reply[T any] interface {
	Val() T
	Err() error
	Result() (T, error)
}

// Scored is a member of a sorted set with its score.
type Scored = goredis.Z

// Range is a part of a sorted set, by score.
type Range = goredis.ZRangeBy

// Page is a part of the result of a scan. The scan goes on at Cursor, and is over if the
// cursor is 0.
type Page struct {
	Entries []string
	Cursor  uint64
}

// IsMissing reports whether there is no key, field or member that a command was to return.
func IsMissing(err error) bool { return errors.Is(err, goredis.Nil) }

// Pipeline returns an empty pipeline.
func (l Commands) Pipeline() Pipeline { return l.library.Pipeline() }

// Send sends the commands that add adds to a pipeline. It returns the first error of any
// command.
func (l Commands) Send(ctx context.Context, add func(pipe Pipeline)) error {
	pipe := l.Pipeline()
	add(pipe)
	return l.c.Send(ctx, pipe)
}

// Library returns the client of go-redis, for commands without a method here.
func (l Commands) Library() goredis.UniversalClient { return l.library }

// command executes a command of go-redis.
func command[T any, C interface{ Result() (T, error) }](ctx context.Context, l Commands, make func(context.Context) C) (T, error) {
	return WithGrace(ctx, l.c, func(ctx context.Context) (T, error) { return make(ctx).Result() })
}

func (l Commands) Del(ctx context.Context, keys ...string) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.Del(ctx, keys...) })
}

func (l Commands) Exists(ctx context.Context, keys ...string) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.Exists(ctx, keys...) })
}

func (l Commands) PExpire(ctx context.Context, key string, d time.Duration) (bool, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.BoolCmd { return l.library.PExpire(ctx, key, d) })
}

func (l Commands) Type(ctx context.Context, key string) (string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StatusCmd { return l.library.Type(ctx, key) })
}

func (l Commands) Get(ctx context.Context, key string) (string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringCmd { return l.library.Get(ctx, key) })
}

func (l Commands) MGet(ctx context.Context, keys ...string) ([]any, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.SliceCmd { return l.library.MGet(ctx, keys...) })
}

func (l Commands) SetNX(ctx context.Context, key string, value any, expiry time.Duration) (bool, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.BoolCmd { return l.library.SetNX(ctx, key, value, expiry) })
}

func (l Commands) HDel(ctx context.Context, key string, fields ...string) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.HDel(ctx, key, fields...) })
}

func (l Commands) HGet(ctx context.Context, key, field string) (string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringCmd { return l.library.HGet(ctx, key, field) })
}

func (l Commands) HGetAll(ctx context.Context, key string) (map[string]string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.MapStringStringCmd { return l.library.HGetAll(ctx, key) })
}

func (l Commands) HKeys(ctx context.Context, key string) ([]string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringSliceCmd { return l.library.HKeys(ctx, key) })
}

// HMGet returns a value or nil for each field.
func (l Commands) HMGet(ctx context.Context, key string, fields ...string) ([]any, error) {
	values, err := command(ctx, l, func(ctx context.Context) *goredis.SliceCmd { return l.library.HMGet(ctx, key, fields...) })
	if err == nil && len(values) != len(fields) {
		return nil, fmt.Errorf("unexpected reply of %d values to HMGET of %d fields", len(values), len(fields))
	}
	return values, err
}

func (l Commands) HSetNX(ctx context.Context, key, field string, value any) (bool, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.BoolCmd { return l.library.HSetNX(ctx, key, field, value) })
}

func (l Commands) LLen(ctx context.Context, key string) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.LLen(ctx, key) })
}

func (l Commands) LRange(ctx context.Context, key string, start, stop int64) ([]string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringSliceCmd { return l.library.LRange(ctx, key, start, stop) })
}

func (l Commands) LRem(ctx context.Context, key string, count int64, value any) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.LRem(ctx, key, count, value) })
}

func (l Commands) SAdd(ctx context.Context, key string, members ...any) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.SAdd(ctx, key, members...) })
}

func (l Commands) SCard(ctx context.Context, key string) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.SCard(ctx, key) })
}

func (l Commands) SMembers(ctx context.Context, key string) ([]string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringSliceCmd { return l.library.SMembers(ctx, key) })
}

func (l Commands) LMove(ctx context.Context, from, to string) (string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringCmd { return l.library.LMove(ctx, from, to, "left", "right") })
}

// RPushOnce is RPUSH. Whereas go-redis repeats other commands after some errors, it sends this
// one once.
func (l Commands) RPushOnce(ctx context.Context, key string, entries []any) error {
	push := Once{goredis.NewCmd(ctx, append(append(make([]any, 0, 2+len(entries)), "rpush", key), entries...)...)}
	push.SetFirstKeyPos(1)
	return l.library.Process(ctx, push)
}

func (l Commands) ZAdd(ctx context.Context, key, member string) (int64, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.IntCmd { return l.library.ZAdd(ctx, key, goredis.Z{Member: member}) })
}

func (l Commands) ZRange(ctx context.Context, key string, start, stop int64) ([]string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringSliceCmd { return l.library.ZRange(ctx, key, start, stop) })
}

// ZRangeByScore is the command of this name with the option WITHSCORES.
func (l Commands) ZRangeByScore(ctx context.Context, key string, by *Range) ([]Scored, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.ZSliceCmd { return l.library.ZRangeByScoreWithScores(ctx, key, by) })
}

// Time returns the server's clock. On a cluster the clock is that of any node.
func (l Commands) Time(ctx context.Context) (time.Time, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.TimeCmd { return l.library.Time(ctx) })
}

func (l Commands) Info(ctx context.Context) (string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.StringCmd { return l.library.Info(ctx) })
}

func (l Commands) ConfigGet(ctx context.Context, parameter string) (map[string]string, error) {
	return command(ctx, l, func(ctx context.Context) *goredis.MapStringStringCmd { return l.library.ConfigGet(ctx, parameter) })
}

// Scan returns a page of the server's keys. On a cluster it is for the Commands that NodeOf
// returns.
func (l Commands) Scan(ctx context.Context, cursor uint64, match string, count int64) (Page, error) {
	return l.scan(ctx, func(ctx context.Context) *goredis.ScanCmd { return l.library.Scan(ctx, cursor, match, count) })
}

// HScan returns a page of fields and values in turn.
func (l Commands) HScan(ctx context.Context, key string, cursor uint64, count int64) (Page, error) {
	return evenPage(l.scan(ctx, func(ctx context.Context) *goredis.ScanCmd { return l.library.HScan(ctx, key, cursor, "", count) }))
}

func (l Commands) SScan(ctx context.Context, key string, cursor uint64, count int64) (Page, error) {
	return l.scan(ctx, func(ctx context.Context) *goredis.ScanCmd { return l.library.SScan(ctx, key, cursor, "", count) })
}

// ZScan returns a page of members and scores in turn.
func (l Commands) ZScan(ctx context.Context, key string, cursor uint64, count int64) (Page, error) {
	return evenPage(l.scan(ctx, func(ctx context.Context) *goredis.ScanCmd { return l.library.ZScan(ctx, key, cursor, "", count) }))
}

// evenPage refuses a page of pairs whose last one has no value.
func evenPage(p Page, err error) (Page, error) {
	if err == nil && len(p.Entries)%2 != 0 {
		return Page{}, fmt.Errorf("unexpected page of %d fields and values", len(p.Entries))
	}
	return p, err
}

func (l Commands) scan(ctx context.Context, make func(context.Context) *goredis.ScanCmd) (Page, error) {
	return WithGrace(ctx, l.c, func(ctx context.Context) (Page, error) {
		entries, cursor, err := make(ctx).Result()
		return Page{entries, cursor}, err
	})
}

// BLMPop blocks until one of the lists has entries, for at most wait, and returns up to
// count from its head, and the list. If none has any, IsMissing is true of the error.
func (l Commands) BLMPop(ctx context.Context, wait time.Duration, count int64, keys ...string) (key string, entries []string, err error) {
	return l.library.BLMPop(ctx, wait, "left", count, keys...).Result()
}

// BZMPopMin blocks until one of the sorted sets has a member, for at most wait, removes the
// first, and returns the key of the set. If none has any, IsMissing is true of the error.
func (l Commands) BZMPopMin(ctx context.Context, wait time.Duration, keys ...string) (key string, err error) {
	key, _, err = l.library.BZMPop(ctx, wait, "min", 1, keys...).Result()
	return key, err
}
