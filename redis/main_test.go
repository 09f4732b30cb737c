package redis_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// shared is the server of all tests that do not break theirs.
var shared *redistest.Server

// mainTB ends the test binary where there is no test to fail.
type mainTB struct{}

func (mainTB) Helper() {}

func (mainTB) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func TestMain(m *testing.M) {
	if url := os.Getenv(producerEnv); url != "" {
		os.Exit(produce(url))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		mainTB{}.Fatalf("make folder of redis-server: %v", err)
	}
	defer os.RemoveAll(dir)
	shared = redistest.Launch(mainTB{}, dir)
	if err := loadScripts(shared); err != nil {
		mainTB{}.Fatalf("load the scripts: %v", err)
	}
	code := m.Run()
	shared.Stop()
	if err := goleak.Find(); err != nil {
		fmt.Fprintf(os.Stderr, "goroutines left: %v\n", err)
		return 1
	}
	return code
}

// loadScripts has the server know all scripts, so that a test that loses a script's reply
// loses not that of a server that does not know the script, whichever test is the first.
func loadScripts(s *redistest.Server) error {
	scripts, err := script.Load()
	if err != nil {
		return err
	}
	for _, loaded := range scripts.All() {
		if _, err := s.Do("SCRIPT", "LOAD", loaded.Source); err != nil {
			return err
		}
	}
	return nil
}

// open opens a broker on the server with a prefix of the test's own.
func open(t testing.TB, s *redistest.Server, cfg redis.Config) *redis.Broker {
	t.Helper()
	if cfg.Prefix == "" {
		cfg.Prefix = prefix(t)
	}
	clean(t, s)
	b, err := redis.Open(t.Context(), s.URL(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// prefix names the keys of a test, whose names are unique.
func prefix(t testing.TB) string {
	return "test/" + strings.NewReplacer(" ", "_", "{", "(", "}", ")").Replace(t.Name())
}

// clean deletes the test's keys after it, so that it can run again.
func clean(t testing.TB, s *redistest.Server) {
	t.Helper()
	t.Cleanup(func() {
		c := goredis.NewClient(&goredis.Options{Addr: s.Addr(), DisableIdentity: true})
		defer c.Close()
		if keys := keysOf(t, c, prefix(t)); len(keys) > 0 {
			require.NoError(t, c.Del(context.Background(), keys...).Err())
		}
	})
}

// keysOf returns the server's keys that begin with the prefix.
func keysOf(t testing.TB, c *goredis.Client, prefix string) (keys []string) {
	t.Helper()
	ctx := context.Background() // of cleanups too
	pattern := strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`).Replace(prefix) + ":*"
	iter := c.Scan(ctx, 0, pattern, 1000).Iterator()
	for iter.Next(ctx) {
		keys = append(keys, iter.Val())
	}
	require.NoError(t, iter.Err())
	return keys
}

// raw is a client of the server, to read and write its keys directly.
func raw(t testing.TB, s *redistest.Server) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr(), DisableIdentity: true})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// run is a run that brokers accept.
func run(id, queue string) *broker.TaskRun {
	return &broker.TaskRun{ID: id, Task: "task", Queue: queue, Payload: []byte("payload of " + id)}
}

func runs(queue string, n int) []*broker.TaskRun {
	list := make([]*broker.TaskRun, n)
	for i := range list {
		list[i] = run(fmt.Sprintf("run-%d", i), queue)
	}
	return list
}

func ids(runs []*broker.TaskRun) []string {
	list := make([]string, len(runs))
	for i, r := range runs {
		list[i] = r.ID
	}
	return list
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// z is a member of a sorted set.
func z(score float64, member string) goredis.Z { return goredis.Z{Score: score, Member: member} }
