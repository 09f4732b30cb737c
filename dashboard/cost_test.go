package dashboard_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/desk"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// What a page may cost, however much the broker has.
const (
	mostCommands = 60
	mostHTML     = 150_000 // bytes
	mostTime     = 200 * time.Millisecond
)

func soaking() bool { return os.Getenv("TASKGEN_SOAK") != "" }

// fleet is a broker with many runs.
type fleet struct {
	t      *testing.T
	server *redistest.Server
	broker *redis.Broker
	dead   string // ids of runs
	queued string
	ended  string
}

// newFleet fills 200 queues, and lets some runs fail.
func newFleet(t *testing.T, queued, dead int) *fleet {
	const queues = 200
	f := &fleet{t: t, server: redistest.Start(t, "--appendonly", "no")}
	var err error
	f.broker, err = redis.Open(t.Context(), f.server.URL(), redis.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.broker.Close()) })
	ctx := taskrt.WithClient(t.Context(), taskrt.NewClient(f.broker, taskrt.ClientConfig{}))
	texts := make([]desk.MeasureParams, queued/queues)
	for n := range texts {
		texts[n].Text = fmt.Sprint("text number ", n)
	}
	for n := range queues {
		handles, err := desk.QueueMeasureBatch(ctx, texts, taskrt.OnQueue(fmt.Sprintf("queue-%03d", n)))
		require.NoError(t, err)
		f.queued = handles[len(handles)-1].ID
	}
	guests := make([]desk.GreetGuestParams, dead)
	for n := range guests {
		guests[n] = desk.GreetGuestParams{Name: "nobody", At: time.Now(), To: desk.Address{City: fmt.Sprint("town ", n%7)}}
	}
	handles, err := desk.QueueGreetGuestBatch(ctx, guests)
	require.NoError(t, err)
	f.dead = handles[0].ID
	f.consume(func(ctx context.Context) {
		done, err := desk.QueueMeasure(ctx, "text")
		require.NoError(t, err)
		_, err = done.Wait(ctx)
		require.NoError(t, err)
		f.ended = done.ID
		for _, h := range handles {
			_, err = h.Wait(ctx)
			require.Error(t, err)
		}
	})
	return f
}

// consume has a consumer take the runs of one queue while do is called.
func (f *fleet) consume(do func(ctx context.Context)) {
	f.t.Helper()
	consumer, err := taskrt.NewConsumer(f.broker, taskrt.ConsumerConfig{Queues: map[string]int{"guests": 1}, Logger: slog.New(slog.DiscardHandler)}, desk.Tasks(&desk.Desk{}))
	require.NoError(f.t, err)
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	do(taskrt.WithClient(ctx, taskrt.NewClient(f.broker, taskrt.ClientConfig{})))
	cancel()
	require.NoError(f.t, <-ended)
}

// handler returns a dashboard that has seen nothing yet.
func (f *fleet) handler() http.Handler {
	f.t.Helper()
	everybody := dashboard.AccessFunc(func(*http.Request) (*dashboard.User, error) {
		return &dashboard.User{Name: "ada", Role: dashboard.RoleAdmin, PerSecond: 100_000}, nil
	})
	h, err := dashboard.New(f.broker, dashboard.Config{Access: everybody, Logger: slog.New(slog.DiscardHandler)}, desk.Tasks(&desk.Desk{}))
	require.NoError(f.t, err)
	return h
}

// TestPagesOfMuchCostLittle asks for each page with 1,000,000 queued runs in 200 queues and 10,000
// dead letters. Without TASKGEN_SOAK there are fewer, and nobody looks at the clock.
func TestPagesOfMuchCostLittle(t *testing.T) {
	queued, dead := 10_000, 200
	if soaking() {
		queued, dead = 1_000_000, 10_000
	}
	f := newFleet(t, queued, dead)
	for _, page := range []string{
		"", "?range=72h", "queues", "queues?sort=queued&from=100", "queue?name=queue-007", "queue?name=guests",
		"runs", "runs?state=queued", "runs?state=queued&queue=queue-007", "runs?state=delayed", "runs?state=running", "runs?state=failed", "runs?state=succeeded",
		"runs?task=measure", "runs?tag=guests", "runs?state=failed&error=town+3", "runs?key=" + f.queued, "runs?since=1m",
		"run?id=queued", "run?queue=guests&id=" + f.dead, "run?queue=guests&id=" + f.ended, "group?queue=guests&id=" + f.ended,
		"dead", "dead?list=1", "dead?error=town+3", "dead?list=1&error=nothing+like+it", "schedules", "limits", "limits?queue=queue-007", "consumers",
		"tasks", "task?name=measure", "task?name=greet_guest", "bulk", "bulk?do=cancel&state=queued", "bulk?do=retry", "bulk?do=delete&error=town+3",
	} {
		h := f.handler()
		get := func() int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+strings.ReplaceAll(page, "id=queued", "id="+f.queued), nil))
			require.Equal(t, http.StatusOK, w.Code, "%s: %.600s", page, w.Body)
			return w.Body.Len()
		}
		size := 0
		commands := redistest.SentCommands(t, f.server, func() { size = get() })
		best := time.Hour
		for range 3 { // without MONITOR, which delays each command
			h = f.handler()
			start := time.Now()
			get()
			best = min(best, time.Since(start))
		}
		t.Logf("%-40s %3d commands, %3d KB, %v", "/"+page, commands, size/1000, best.Round(time.Millisecond))
		if commands > mostCommands || size > mostHTML || soaking() && best > mostTime {
			t.Errorf("page /%s: %d commands, %d bytes, %v: at most %d, %d and %v", page, commands, size, best, mostCommands, mostHTML, mostTime)
		}
	}
}

// TestManyViewersCostAsOne has 50 people watch five pages for five seconds, with TASKGEN_SOAK,
// else for one look: the broker is read once a second however many they are.
func TestManyViewersCostAsOne(t *testing.T) {
	f := newFleet(t, 2000, 10)
	server := httptest.NewServer(f.handler())
	defer server.Close()
	looks := 1
	if soaking() {
		looks = 5
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var viewers sync.WaitGroup
	seen := make(chan struct{}, 1000)
	start := time.Now()
	commands := redistest.SentCommands(t, f.server, func() {
		for n := range 50 {
			page := []string{"", "queues", "runs?state=queued", "dead", "consumers"}[n%5]
			viewers.Go(func() { f.watch(ctx, server.URL+"/events?page="+page, seen) })
		}
		for range looks * 10 { // each look reaches ten viewers
			<-seen
		}
	})
	took := time.Since(start)
	cancel()
	viewers.Wait()
	seconds := int(took/time.Second) + 1
	t.Logf("%d commands in %v", commands, took)
	require.LessOrEqual(t, commands, seconds*mostCommands)
}

// watch reads a stream until ctx ends, and says so after each event.
func (f *fleet) watch(ctx context.Context, address string, seen chan<- struct{}) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.ReplaceAll(address, "page=runs?state=queued", "page=runs%3Fstate%3Dqueued"), nil)
	if err != nil {
		f.t.Error(err)
		return
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		if ctx.Err() == nil {
			f.t.Error(err)
		}
		return
	}
	defer reply.Body.Close()
	lines := bufio.NewScanner(reply.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "event: parts") {
			seen <- struct{}{}
		}
	}
}
