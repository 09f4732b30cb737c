package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// canaries are secrets of every type, and how none of them may be seen.
func canaries() (tasks.LeakParams, []string) {
	p := tasks.LeakParams{
		Text: "CANARY one/two+three\"", Key: [8]byte{0xde, 0xad, 0xbe, 0xef, 0xca, 0xfe, 0xf0, 0x0d}, Raw: []byte("CANARY-raw"),
		Pin: 305419896, Ratio: 27182.8125,
		Who: tasks.Credentials{
			User: "CANARY-user", Tokens: map[string][]string{"CANARY-key": {"CANARY-token"}},
			Born: time.Date(1999, 12, 31, 1, 2, 3, 0, time.UTC), From: netip.MustParseAddr("192.0.2.77"),
		},
		Amount: big.NewInt(9876543210123),
	}
	return p, []string{
		"CANARY", "one/two", "one%2Ftwo", "deadbeef", "222 173 190", "0xde, 0xad", "305419896", "12345678", "27182", "2.7182", "1999-12-31",
		"192.0.2.77", "9876543210123", "Q0FOQVJZ", "43414e415259", "67 65 78 65 82 89", "NBTkFSWS", "DQU5BUlk",
	}
}

// lockedBuffer is a log that many write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestSecretsStayHidden has tasks fail in every way with their secrets in what
// they say: nothing of them is in the log, in an event, in the run's record or
// progress, or in its dead letter.
func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	b := memory.New()
	var log lockedBuffer
	var events lockedBuffer
	consume(t, b, taskrt.ConsumerConfig{
		Logger:  slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnEvent: func(e taskrt.Event) { fmt.Fprintf(&events, "%+v %+v\n", e, e.Err) },
	}, tasks.Tasks(nil))
	ctx, cancel := context.WithTimeout(taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{})), 50*time.Second)
	defer cancel()
	p, forbidden := canaries()
	seen := map[string]string{}
	for _, how := range []string{"error", "panic", "argument", "number", "print"} {
		for kind, queue := range map[string]func() (*taskrt.Handle[taskrt.None], error){
			"io": func() (*taskrt.Handle[taskrt.None], error) {
				return tasks.QueueLeak(ctx, how, p.Text, p.Key, p.Raw, p.Pin, p.Ratio, p.Who, p.Amount, taskrt.Keep(time.Hour))
			},
			"cpu": func() (*taskrt.Handle[taskrt.None], error) {
				return tasks.QueueLeakApart(ctx, how, p.Text, p.Key, p.Raw, p.Pin, p.Ratio, p.Who, p.Amount, taskrt.Keep(time.Hour))
			},
		} {
			if how == "print" && kind == "io" {
				continue // the program's own standard error
			}
			h, err := queue()
			require.NoError(t, err)
			_, err = h.Wait(ctx)
			if how != "print" {
				require.Error(t, err)
			}
			status, statusErr := h.Status(ctx)
			require.NoError(t, statusErr)
			seen[kind+" "+how] = fmt.Sprintf("%+v\n%+v\n%+v", err, status, status.Err)
		}
	}
	letters, err := b.DeadLetters(ctx, "default", 100)
	require.NoError(t, err)
	require.NotEmpty(t, letters)
	for _, l := range letters {
		seen["dead letter "+l.ID] = fmt.Sprintf("%+v", l.Failure)
	}
	seen["log"], seen["events"] = log.String(), events.String()
	for where, text := range seen {
		for _, secret := range forbidden {
			require.NotContains(t, text, secret, where)
		}
	}
	require.Contains(t, seen["log"], "***")
	require.Contains(t, seen["log"], "leak(...)", "stacks are there, without arguments")
}

// TestSecretsOfACrash has a child process panic on another goroutine and print the
// secret.
func TestSecretsOfACrash(t *testing.T) {
	t.Parallel()
	b := memory.New()
	var log lockedBuffer
	consume(t, b, taskrt.ConsumerConfig{MaxCrashes: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil))
	ctx, cancel := context.WithTimeout(taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{})), 50*time.Second)
	defer cancel()
	p, forbidden := canaries()
	h, err := tasks.QueueLeakApart(ctx, "crash", p.Text, p.Key, p.Raw, p.Pin, p.Ratio, p.Who, p.Amount, taskrt.Keep(time.Hour))
	require.NoError(t, err)
	_, err = h.Wait(ctx)
	var failed *taskrt.RunError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, taskrt.Crashed, failed.Kind)
	require.Contains(t, failed.Stack, "panic: ***")
	for _, secret := range forbidden {
		require.NotContains(t, log.String(), secret)
		require.NotContains(t, failed.Message+failed.Stack, secret)
	}
}

// TestSecretsThatRunsLeftBehindStayHidden has a child print what a run left in it
// many runs before.
func TestSecretsThatRunsLeftBehindStayHidden(t *testing.T) {
	t.Parallel()
	b := memory.New()
	var log lockedBuffer
	consume(t, b, taskrt.ConsumerConfig{Processes: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil))
	ctx, cancel := context.WithTimeout(taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{})), 50*time.Second)
	defer cancel()
	p, forbidden := canaries()
	run := func(how string, p tasks.LeakParams) {
		h, err := tasks.QueueLeakApart(ctx, how, p.Text, p.Key, p.Raw, p.Pin, p.Ratio, p.Who, p.Amount, taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.NoError(t, err)
	}
	run("leave", p)
	for i := range 100 {
		how := "quiet"
		if i%40 == 0 {
			how = "print"
		}
		run(how, tasks.LeakParams{Text: fmt.Sprint("another ", i)})
	}
	for range 2 {
		run("left", tasks.LeakParams{Text: "the last"})
	}
	require.Equal(t, 2, strings.Count(log.String(), "left: ***"))
	for _, secret := range append(forbidden, "another 40", "the last") {
		require.NotContains(t, log.String(), secret)
	}
}

// TestSchemaErrorsQuoteNoSecret checks that errors quote values of other parameters, but
// no piece of a secret one.
func TestSchemaErrorsQuoteNoSecret(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		key   string
		value []byte
		want  string
	}{
		"a number":         {"amount", codec.AppendString(nil, "12CANARY"), "big.Int refuses this value"},
		"a key twice":      {"who", []byte("\x81\xa6Tokens\x82\xa6CANARY\x90\xa6CANARY\x90"), "a key is repeated"},
		"another type":     {"pin", codec.AppendString(nil, "CANARY"), "a string where an integer was expected"},
		"an address":       {"who", []byte("\x81\xa4From\xc4\x07CANARY!"), "netip.Addr refuses this value"},
		"not of a secret":  {"how", codec.AppendInt(nil, 5), "an integer where a string was expected"},
		"another's secret": {"amount", codec.AppendString(nil, "x"), "big.Int refuses this value"},
	} {
		t.Run(name, func(t *testing.T) {
			b := memory.New()
			var log lockedBuffer
			consume(t, b, taskrt.ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			payload := codec.AppendString([]byte{0x82}, "text")
			payload = codec.AppendString(payload, "CANARY")
			payload = append(codec.AppendString(payload, test.key), test.value...)
			run := stored("leak", payload)
			require.NoError(t, b.QueueTasks(ctx, run))
			record, err := b.WaitRecord(ctx, run.Queue, run.ID)
			require.NoError(t, err)
			require.Equal(t, taskrt.Schema, record.Failure.Kind)
			require.Contains(t, record.Failure.Message, test.want)
			require.NotContains(t, record.Failure.Message+log.String(), "CANARY")
		})
	}
}
