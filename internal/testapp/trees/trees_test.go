//go:build !windows

package trees

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/redistest"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// What a process of the test binary that is a consumer gets in its environment.
const (
	consumerURL    = "TREES_TEST_URL"
	consumerLedger = "TREES_TEST_LEDGER"
)

// TestMain makes the test binary three things: the tests, a consumer, and a child process of one.
func TestMain(m *testing.M) {
	ledger := &Ledger{File: os.Getenv(consumerLedger)}
	taskrt.ServeChild(Tasks(ledger))
	if url := os.Getenv(consumerURL); url != "" {
		if err := consume(url, ledger); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// consume executes runs until the process gets a signal.
func consume(url string, ledger *Ledger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	b, err := brokerurl.Open(ctx, url)
	if err != nil {
		return err
	}
	c, err := newConsumer(b, ledger)
	if err == nil {
		fmt.Println("up")
		err = c.Run(ctx)
	}
	return errors.Join(err, b.(io.Closer).Close())
}

func newConsumer(b broker.Broker, ledger *Ledger) (*taskrt.Consumer, error) {
	return taskrt.NewConsumer(b, taskrt.ConsumerConfig{
		Queues: Queues, Lease: time.Second, Grace: time.Millisecond, Processes: 1, Logger: slog.New(slog.DiscardHandler),
		Children: taskrt.ChildConfig{Env: []string{consumerLedger + "=" + ledger.File}},
	}, Tasks(ledger))
}

// trial is trees that are executed while consumers die.
type trial struct {
	*testing.T
	b       broker.Broker
	ledger  *Ledger
	ctx     context.Context // carries the client
	trees   []Tree
	handles []*taskrt.Handle[string]
}

// queue queues so many trees.
func (tr *trial) queue(n int) {
	seed := uint64(time.Now().UnixNano())
	tr.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		t := Random(r, fmt.Sprint("t", i), 1+r.IntN(4), r.IntN(200))
		h, err := t.Call().Queue(tr.ctx)
		require.NoError(tr, err, "queue %+v", t)
		tr.trees, tr.handles = append(tr.trees, t), append(tr.handles, h)
	}
}

// await waits for the ends of all trees.
func (tr *trial) await() {
	for i, h := range tr.handles {
		want, succeeds := tr.trees[i].Want()
		got, err := h.Wait(tr.ctx)
		if succeeds {
			require.NoError(tr, err, "tree %d: %+v", i, tr.trees[i])
			require.Equal(tr, want, got, "tree %d", i)
			continue
		}
		failed := (*taskrt.RunError)(nil)
		require.ErrorAs(tr, err, &failed, "tree %d: %+v", i, tr.trees[i])
	}
}

// requireQueuedOnce checks that each run of the trees began, as the run with one id, and no other.
func (tr *trial) requireQueuedOnce() {
	f, err := os.Open(tr.ledger.File)
	require.NoError(tr, err)
	defer f.Close()
	ids := map[string][]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, id, _ := strings.Cut(lines.Text(), " ")
		if !slices.Contains(ids[name], id) {
			ids[name] = append(ids[name], id)
		}
	}
	for _, t := range tr.trees {
		for _, name := range t.Runs() {
			require.Len(tr, ids[name], 1, "ids of run %s of %+v", name, t)
			delete(ids, name)
		}
	}
	require.Empty(tr, ids, "runs that were not to begin")
}

// requireNothingWaits waits until no run of the queues is left.
func (tr *trial) requireNothingWaits() {
	require.Eventually(tr, func() bool {
		lengths, err := tr.b.QueueLength(tr.ctx)
		left := int64(0)
		for queue := range Queues {
			info, failed := tr.b.(broker.Controls).Queue(tr.ctx, queue)
			if failed != nil {
				return false
			}
			left += lengths[queue] + info.Running
		}
		return err == nil && left == 0
	}, 30*time.Second, 50*time.Millisecond)
}

func newTrial(t *testing.T, b broker.Broker) *trial {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	client := taskrt.NewClient(b, taskrt.ClientConfig{})
	return &trial{T: t, b: b, ledger: &Ledger{File: filepath.Join(t.TempDir(), "ledger")}, ctx: taskrt.WithClient(ctx, client)}
}

// number returns how many trees a test has.
func number() int {
	if os.Getenv("TASKGEN_SOAK") == "1" {
		return 300
	}
	return 12
}

// TestTreesEndAsWithoutFaults has consumers of a server and of a cluster killed each second.
func TestTreesEndAsWithoutFaults(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (url string, servers []*redistest.Server){
		"server": func(t *testing.T) (string, []*redistest.Server) {
			s := redistest.Start(t)
			return s.URL(), []*redistest.Server{s}
		},
		"cluster": func(t *testing.T) (string, []*redistest.Server) {
			c := redistest.StartCluster(t)
			return c.URL(), c.Nodes
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, servers := start(t)
			b, err := brokerurl.Open(t.Context(), url)
			require.NoError(t, err)
			tr := newTrial(t, b)
			t.Cleanup(func() { _ = b.(io.Closer).Close() })
			stop := tr.killConsumers(url)
			tr.queue(number())
			tr.await()
			tr.requireNothingWaits()
			stop()
			tr.requireQueuedOnce()
			for _, s := range servers {
				requireNoKeys(t, s)
			}
		})
	}
}

// killConsumers has two consumers, which are killed in turn, one each second, but not before they
// are up, and started again. The function that it returns ends the last two.
func (tr *trial) killConsumers(url string) (stop func()) {
	over := make(chan struct{})
	var killing sync.WaitGroup
	for i := range time.Duration(2) {
		killing.Go(func() {
			for life := (1 + i) * time.Second; tr.live(url, life, over); {
				life = 2 * time.Second
			}
		})
	}
	end := sync.OnceFunc(func() { close(over); killing.Wait() })
	tr.Cleanup(end)
	return end
}

// live starts a process that consumes, and kills it some time after it is up. It reports whether
// there is to be another.
func (tr *trial) live(url string, life time.Duration, over <-chan struct{}) bool {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), consumerURL+"="+url, consumerLedger+"="+tr.ledger.File, "GORACE=atexit_sleep_ms=0")
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		tr.Errorf("start consumer: %v", err)
		return false
	}
	_, _ = out.Read(make([]byte, 1)) // returns once it is up, or has ended
	sig, more := syscall.SIGKILL, true
	select {
	case <-time.After(life):
	case <-over:
		sig, more = syscall.SIGTERM, false
	}
	_ = c.Process.Signal(sig)
	_ = c.Wait()
	return more
}

// requireNoKeys checks that a server keeps nothing of the trees for ever.
func requireNoKeys(t *testing.T, s *redistest.Server) {
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer c.Close()
	keys, err := c.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	if role, err := c.Do(t.Context(), "ROLE").Slice(); err != nil || role[0] != "master" {
		require.NoError(t, err)
		return // a replica has what its master has
	}
	for _, key := range keys {
		_, kind, _ := strings.Cut(key, "}:")
		stays := []string{"dead", "last", "leases", "takes", "idle:io", "idle:cpu", "wake:io", "wake:cpu", "waiters", ""}
		if !slices.Contains(stays, kind) {
			ttl, err := c.TTL(t.Context(), key).Result()
			require.NoError(t, err)
			require.NotEqual(t, time.Duration(-1), ttl, "key %s stays", key)
		}
	}
}

// TestTreesEndAsWithoutFaultsEmbedded stops the consumer of an embedded broker all the time,
// without time for its runs to end.
func TestTreesEndAsWithoutFaultsEmbedded(t *testing.T) {
	t.Parallel()
	b := memory.New()
	tr := newTrial(t, b)
	over, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	var running sync.WaitGroup
	running.Go(func() {
		for over.Err() == nil {
			c, err := newConsumer(b, tr.ledger)
			if err == nil {
				brief, cancel := context.WithTimeout(over, 100*time.Millisecond)
				err = c.Run(brief)
				cancel()
			}
			if err != nil {
				t.Errorf("consume: %v", err)
				return
			}
		}
	})
	tr.queue(number())
	tr.await()
	tr.requireNothingWaits()
	stop()
	running.Wait()
	tr.requireQueuedOnce()
	require.NoError(t, b.Close())
}
