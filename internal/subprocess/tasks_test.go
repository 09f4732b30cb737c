//go:build linux

package subprocess_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

type task = func(ctx context.Context, payload string, parent *subprocess.Parent) (string, error)

// handler returns the function that the test's children execute runs with.
func handler() subprocess.Handle {
	byName := tasks()
	return func(ctx context.Context, run *broker.TaskRun, parent *subprocess.Parent) *subprocess.Response {
		switch run.Task {
		case "verdict":
			return &subprocess.Response{Permanent: true, RetryAfter: time.Minute,
				Failure: &broker.Failure{Kind: broker.FailureSchema, Message: "bad \xff bytes", Stack: "here"}}
		case "snooze":
			return &subprocess.Response{Snooze: time.Minute, Failure: &broker.Failure{Message: "not yet"}}
		}
		result, err := byName[run.Task](ctx, string(run.Payload), parent)
		if err != nil {
			return &subprocess.Response{Failure: &broker.Failure{Message: err.Error()}}
		}
		return &subprocess.Response{Result: []byte(result)}
	}
}

// tasks returns the tasks of a process by name. Some keep state between runs.
func tasks() map[string]task {
	return map[string]task{
		// that answer
		"echo":     echo,
		"result":   result,
		"fail":     fail,
		"deadline": deadline,
		"environ":  environ,
		"limits":   limits,

		// that go on
		"wait":    wait,
		"stopped": stopped,
		"nap":     nap,
		"spin":    spin,
		"deaf":    deaf,

		// that end their process, or their goroutine
		"exit":     exitWith,
		"signal":   signalSelf,
		"panic":    panicHere,
		"panics":   panicElsewhere,
		"overflow": overflow,
		"abort":    abortSlowly,
		"goexit":   goexit,

		// that write
		"print":    printLines,
		"big":      printBig,
		"lines":    printLong,
		"newlines": printNewlines,
		"partial":  printPart,
		"log":      logRecords,
		"records":  logMany,

		// that talk with the parent
		"call":      oneCall,
		"calls":     manyCalls,
		"callshort": callShort,
		"late":      lateCall,
		"hold":      hold,
		"raw":       raw,

		// that harm their process, or are large
		"poison": poison(),
		"leak":   leak,
		"open":   open,
		"mute":   mute,
		"grab":   grab,
		"grow":   grow(),
		"feed":   feed,

		// that start processes
		"family":      family,
		"daemon":      daemon,
		"leave":       leave,
		"orphans":     orphans,
		"own":         waitLate,
		"zombies":     zombies,
		"descriptors": descriptors,
	}
}

func echo(_ context.Context, p string, _ *subprocess.Parent) (string, error) { return p, nil }

func fail(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	return "", errors.New(p)
}

// result returns a number of bytes.
func result(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	return strings.Repeat("x", number(p)), nil
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func tell(ctx context.Context, parent *subprocess.Parent, format string, args ...any) {
	_, _ = parent.Call(ctx, "tell", fmt.Appendf(nil, format, args...))
}

// wait reports its process, and returns when its context ends, with the cause.
func wait(ctx context.Context, _ string, parent *subprocess.Parent) (string, error) {
	tell(ctx, parent, "%d", os.Getpid())
	<-ctx.Done()
	return fmt.Sprintf("%v, because %v, deadline %v", ctx.Err(), context.Cause(ctx),
		errors.Is(context.Cause(ctx), context.DeadlineExceeded)), nil
}

// stopped reports the id of its process, and waits until it is stopped.
func stopped(ctx context.Context, _ string, parent *subprocess.Parent) (string, error) {
	tell(ctx, parent, "%d", os.Getpid())
	<-ctx.Done()
	return "", ctx.Err()
}

func deadline(ctx context.Context, _ string, _ *subprocess.Parent) (string, error) {
	d, ok := ctx.Deadline()
	if !ok {
		return "none", nil
	}
	return d.Format(time.RFC3339Nano), nil
}

// spin ignores its context and burns its processor.
func spin(ctx context.Context, _ string, parent *subprocess.Parent) (string, error) {
	tell(ctx, parent, "%d", os.Getpid())
	for n := 0; ; n++ {
		if n < 0 {
			return "", nil
		}
	}
}

func exitWith(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	code, text, _ := strings.Cut(p, " ")
	fmt.Fprintln(os.Stderr, text)
	os.Exit(number(code))
	return "", nil
}

func panicHere(context.Context, string, *subprocess.Parent) (string, error) { panic("no such luck") }

func panicElsewhere(ctx context.Context, _ string, _ *subprocess.Parent) (string, error) {
	go panic("somewhere else")
	<-ctx.Done()
	return "", nil
}

func goexit(context.Context, string, *subprocess.Parent) (string, error) {
	runtime.Goexit()
	return "", nil
}

func signalSelf(ctx context.Context, p string, _ *subprocess.Parent) (string, error) {
	if err := syscall.Kill(os.Getpid(), syscall.Signal(number(p))); err != nil {
		return "", err
	}
	if p == "9" || p == "19" {
		<-ctx.Done()
	}
	return "alive", nil
}

func overflow(context.Context, string, *subprocess.Parent) (string, error) {
	debug.SetMaxStack(1 << 20)
	return strconv.Itoa(recurse(1)), nil
}

// recurse does not end.
func recurse(n int) int {
	var pad [256]byte
	pad[n%256] = byte(n)
	//lint:ignore SA5007 it is to overflow the stack
	return recurse(n+1) + int(pad[(n+1)%256])
}

// abortSlowly ends the process by a signal while it has many goroutines.
func abortSlowly(ctx context.Context, _ string, _ *subprocess.Parent) (string, error) {
	for range 30 {
		go func() { <-ctx.Done() }()
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGABRT); err != nil {
		return "", err
	}
	<-ctx.Done()
	return "", nil
}

func printLines(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	for i := range number(p) {
		fmt.Printf("out %d\n", i)
		fmt.Fprintf(os.Stderr, "err %d\n", i)
	}
	return "", nil
}

func printBig(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	fmt.Println(strings.Repeat("x", number(p)))
	fmt.Println("after")
	return strings.Repeat("y", 1000), nil
}

// printLong prints so many lines.
func printLong(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	for range number(p) {
		fmt.Println(strings.Repeat("x", 60_000))
	}
	return "", nil
}

func printNewlines(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	_, err := os.Stdout.WriteString(strings.Repeat("\n", number(p)))
	return "", err
}

// printPart prints a line that does not end.
func printPart(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	fmt.Print(p)
	return "", nil
}

// mute closes the output with a descriptor.
func mute(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
	return "", syscall.Close(number(p))
}

// leak opens files until it reaches the limit, and loses them.
func leak(context.Context, string, *subprocess.Parent) (string, error) {
	limit := syscall.Rlimit{Cur: 200, Max: 200}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	for {
		if _, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return "leaked", nil
		}
	}
}

// open fails if no more files can be opened.
func open(context.Context, string, *subprocess.Parent) (string, error) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	return "", f.Close()
}

// poison makes its process fail from now on if asked to. Otherwise it holds its run
// until the test releases it.
func poison() task {
	poisoned := false
	return func(ctx context.Context, p string, parent *subprocess.Parent) (string, error) {
		if poisoned = poisoned || p == "poison"; poisoned {
			return "", errors.New("poisoned")
		}
		return hold(ctx, p, parent)
	}
}

// environ shows the environments of this process and of one that it starts.
func environ(context.Context, string, *subprocess.Parent) (string, error) {
	argv, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("sh", "-c", "env; ls -l /proc/self/fd").Output()
	return fmt.Sprintf("argv %q\nown %v\n%s", argv, os.Environ(), out), err
}

// manyCalls makes concurrent calls and checks that each gets its own reply.
func manyCalls(ctx context.Context, p string, parent *subprocess.Parent) (string, error) {
	var work sync.WaitGroup
	bad := make(chan string, number(p))
	for i := range number(p) {
		work.Go(func() {
			want := fmt.Sprintf("double:%d%d", i, i)
			got, err := parent.Call(ctx, "double", fmt.Appendf(nil, "%d", i))
			if err != nil || string(got) != want {
				bad <- fmt.Sprintf("got %s, %v, want %s", got, err, want)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		work.Wait()
		close(done)
	}()
	select {
	case text := <-bad:
		return "", errors.New(text) // the others end with the run
	case <-done:
	}
	select {
	case text := <-bad:
		return "", errors.New(text)
	default:
		return "all right", nil
	}
}

func oneCall(ctx context.Context, p string, parent *subprocess.Parent) (string, error) {
	method, body, _ := strings.Cut(p, " ")
	if method == "big" {
		body = strings.Repeat("x", number(body))
	}
	b, err := parent.Call(ctx, method, []byte(body))
	return string(b), err
}

// lateCall leaves goroutines that use the parent after the run.
func lateCall(_ context.Context, _ string, parent *subprocess.Parent) (string, error) {
	ctx := context.Background()
	log := slog.New(parent.Handler())
	started := make(chan struct{})
	for range 4 {
		go func() {
			for first := true; ; first = false {
				_, err := parent.Call(ctx, "block", nil)
				log.Info("late", "error", err)
				if first {
					started <- struct{}{}
				}
				if err != nil {
					return
				}
			}
		}()
	}
	return "left", nil
}

// raw writes to the parent's descriptor.
func raw(ctx context.Context, p string, _ *subprocess.Parent) (string, error) {
	if _, err := syscall.Write(4, []byte(p)); err != nil {
		return "", err
	}
	if p == "" {
		return "", syscall.Close(4)
	}
	<-ctx.Done()
	return "", nil
}

// text is a value with its own log format.
type text string

func (t text) LogValue() slog.Value { return slog.StringValue("logged " + string(t)) }

func logRecords(_ context.Context, p string, parent *subprocess.Parent) (string, error) {
	log := slog.New(parent.Handler())
	if p != "" {
		log.Info("big", "value", strings.Repeat("x", number(p)))
		return "", nil
	}
	log.Debug("too low")
	log.Warn("all kinds", "bool", true, "int", -3, "uint", uint64(7), "float", 1.5, "string", "s\xff",
		"duration", time.Second, "at", time.Unix(1, 5).UTC(), "error", errors.New("bad"), "valuer", text("x"),
		slog.Group("group", "a", 1, slog.Group("inner", "b", 2)), slog.Group("", "inline", 3), slog.Attr{})
	log.With("with", 1).WithGroup("g").With("x", 2).Info("derived", "y", 3)
	return "", nil
}

// logMany logs a number of records.
func logMany(_ context.Context, p string, parent *subprocess.Parent) (string, error) {
	log := slog.New(parent.Handler())
	for range number(p) {
		log.Info("one of many")
	}
	return "", nil
}

// hold reports its process and returns once the test lets the call return.
func hold(ctx context.Context, _ string, parent *subprocess.Parent) (string, error) {
	_, err := parent.Call(ctx, "hold", nil)
	return strconv.Itoa(os.Getpid()), err
}

// callShort gives up a call before its reply.
func callShort(ctx context.Context, _ string, parent *subprocess.Parent) (string, error) {
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err := parent.Call(short, "block", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		return "", fmt.Errorf("unexpected end of call: %w", err)
	}
	_, err = parent.Call(ctx, "ended", nil)
	return "gave up", err
}

// nap takes a while and ignores its context.
func nap(ctx context.Context, p string, parent *subprocess.Parent) (string, error) {
	tell(ctx, parent, "%d", os.Getpid())
	timer := time.NewTimer(time.Duration(number(p)) * time.Millisecond)
	<-timer.C
	return "rested", nil
}

// deaf ignores its context and all signals that it can.
func deaf(ctx context.Context, _ string, parent *subprocess.Parent) (string, error) {
	for s := syscall.Signal(1); s < 32; s++ {
		if s != syscall.SIGCHLD {
			signal.Ignore(s)
		}
	}
	return spin(ctx, "", parent)
}

// grab takes a number of MiB and holds them.
func grab(ctx context.Context, p string, _ *subprocess.Parent) (string, error) {
	held := make([]byte, number(p)<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	if number(p) > 32 {
		<-ctx.Done()
	}
	runtime.KeepAlive(held)
	return "held", nil
}

// feed starts processes, one of which takes 200 MB.
func feed(context.Context, string, *subprocess.Parent) (string, error) {
	return "", exec.Command("sh", "-c", "(head -c 200000000 /dev/zero; sleep 300) | tail -n 1").Run()
}

// grow leaves MiBs behind in its process.
func grow() task {
	var held [][]byte
	return func(_ context.Context, p string, _ *subprocess.Parent) (string, error) {
		b := make([]byte, number(p)<<20)
		for i := range b {
			b[i] = byte(i)
		}
		held = append(held, b)
		return strconv.Itoa(len(held)), nil
	}
}

// limits returns the limits of this process.
func limits(context.Context, string, *subprocess.Parent) (string, error) {
	nice, err := syscall.Getpriority(syscall.PRIO_PROCESS, os.Getpid())
	if err != nil {
		return "", err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return "", err
	}
	var core, data syscall.Rlimit
	if err := errors.Join(syscall.Getrlimit(syscall.RLIMIT_CORE, &core), syscall.Getrlimit(syscall.RLIMIT_DATA, &data)); err != nil {
		return "", err
	}
	return fmt.Sprintf("nice %d oom %s core %d data %v memory %v threads %d", 20-nice, strings.TrimSpace(string(score)), core.Cur,
		data.Cur < 1<<40, debug.SetMemoryLimit(-1) < 1<<40, runtime.GOMAXPROCS(0)), nil
}
