// Quickstart is the whole path in one program. It serves the text files of its
// testdata folder over HTTP, fetches them with io tasks, calculates each in a child
// process, and says OK every second.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -broker redis://127.0.0.1:6379
//
// On Redis it can be killed and started again: it continues where it was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/examples/quickstart/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func main() {
	store := &tasks.Store{Dir: os.Getenv(dirEnv)}
	taskrt.ServeChild(tasks.Tasks(store)) // a child process ends here
	url := flag.String("broker", "", "broker URL, such as redis://127.0.0.1:6379 (default embedded)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *url, store); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, broker string, store *tasks.Store) error {
	if err := openStore(store, broker != ""); err != nil {
		return err
	}
	urls, closeServer, err := serveDocuments(store)
	if err != nil {
		return err
	}
	defer closeServer()
	if broker != "" && !strings.Contains(broker, "?") {
		broker += "?prefix=quickstart" // other applications may use the same database
	}
	b, err := brokerurl.Open(ctx, broker)
	if err != nil {
		return err
	}
	defer b.(io.Closer).Close()
	client := taskrt.NewClient(b, taskrt.ClientConfig{})
	logger := newLogger()
	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{
		Processes: 2, Lease: 2 * time.Second, Logger: logger,
		Children: taskrt.ChildConfig{Env: []string{dirEnv}}, // children get only these variables
	}, tasks.Tasks(store))
	if err != nil {
		return err
	}
	scheduler, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: logger}, tasks.Tasks(store))
	if err != nil {
		return err
	}
	return together(taskrt.WithClient(ctx, client),
		consumer.Run,
		scheduler.Run,
		func(ctx context.Context) error { return work(ctx, store, urls) },
	)
}

// work queues the first documents and waits until all are calculated.
func work(ctx context.Context, store *tasks.Store, urls []string) error {
	for _, url := range tasks.First(urls) {
		// The id keeps a document from being queued twice.
		_, err := tasks.QueueStoreFetchData(ctx, url, taskrt.ID(url))
		if err != nil && !errors.Is(err, taskrt.ErrDuplicate) {
			return err
		}
	}
	for every := time.NewTicker(50 * time.Millisecond); ; {
		summaries, err := store.Summaries()
		if err != nil {
			return err
		}
		if len(summaries) == len(urls) && tasks.Ticks() >= 2 {
			printTotals(summaries)
			return os.RemoveAll(store.Dir)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return fmt.Errorf("interrupted with %d of %d documents done", len(summaries), len(urls))
		}
	}
}

// together runs the roles until one of them returns, which stops the others.
func together(ctx context.Context, roles ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(roles))
	var running sync.WaitGroup
	for i, role := range roles {
		running.Go(func() {
			defer cancel()
			errs[i] = role(ctx)
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

func printTotals(summaries []tasks.Summary) {
	words := 0
	for _, s := range summaries {
		words += s.Words
	}
	fmt.Printf("pid=%d done: %d documents, %d words, %d ticks\n", os.Getpid(), len(summaries), words, tasks.Ticks())
}

// newLogger prints one line for each record, with the id of the process. Records of
// child processes have their own.
func newLogger() *slog.Logger {
	return slog.New(pidHandler{slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, slog.LevelKey, "run", "attempt":
				return slog.Attr{}
			}
			return a
		},
	})})
}

type pidHandler struct{ slog.Handler }

func (h pidHandler) Handle(ctx context.Context, r slog.Record) error {
	found := false
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == "pid"
		return !found
	})
	if !found {
		r.AddAttrs(slog.Int("pid", os.Getpid()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h pidHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return pidHandler{h.Handler.WithAttrs(attrs)}
}
