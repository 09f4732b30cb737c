package runtime

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// SupportsGeneratedV1 is defined by every runtime that runs what taskgen
// generates today. Generated code refers to it, so that code and runtime that
// do not fit fail to build on that line, whichever of the two is older: a
// change of what generated code may use or do defines SupportsGeneratedV2,
// which taskgen then writes, and V1 stays as long as the code that refers to it
// runs as before. A runtime that no longer runs it must drop V1.
const SupportsGeneratedV1 = true

// None is the result of a task that returns only an error.
type None = struct{}

// Kind tells where a task runs.
type Kind = broker.Kind

// The two kinds of task.
const (
	IO  = broker.IO  // on a goroutine of the consumer
	CPU = broker.CPU // in a child process of the consumer
)

// Priority orders the runs of one queue.
type Priority = broker.Priority

// The three priorities; a task without one is Medium.
const (
	Low    = broker.Low
	Medium = broker.Medium
	High   = broker.High
)

// Spec is what a task's directives say of it. Generated code fills it in.
type Spec struct {
	Name     string        // on the wire
	Aliases  []string      // other names under which queued runs are this task's
	Doc      string        // the function's doc comment
	Kind     Kind          // IO or CPU
	Queue    string        // defaults to "default"
	Priority Priority      // defaults to Medium
	Schedule Timing        // when schedulers queue it; the zero value: they do not
	Retry    RetryPolicy   // defaults to 4 attempts, 1s..10m, factor 2
	Timeout  time.Duration // of one attempt; defaults to 5m for IO, 30m for CPU
	Expire   time.Duration // not started within this of being due: dropped; 0: never
	Keep     time.Duration // how long outcome and result are kept; 0: no record of a success
	Unique   time.Duration // one live run with the same key, until this long after it was due at most; 0: any number
	// UniqueUntilStart frees the key of Unique when the run first starts.
	UniqueUntilStart bool

	Limit   Limit    // of what runs and starts across the fleet; the zero value: none
	Fair    bool     // runs are taken round-robin over the values of a parameter
	Memory  int64    // bytes of memory that a child process and what it starts may have, on Linux; beyond it the run ends as oom; 0: no cap
	Env     []string // KEY=value, in the child process's environment while the task runs
	Secrets []string // parameters that are shown as ***
	Tags    []string
	Params  string // the wire form of the parameters, in the grammar of internal/schema's package doc
	Result  string // the wire form of the result; empty without one
}

// Timing is when schedulers queue a task: at an interval or by a cron
// expression.
type Timing struct {
	Every  time.Duration // at multiples of this since the Unix epoch
	Start  bool          // once more when a scheduler starts
	Cron   string        // five fields, or @daily and its like
	Zone   string        // of Cron, an IANA name; defaults to UTC
	Jitter time.Duration // each tick is moved by less than this

	Missed    Missed // defaults to MissedLatest
	MissedMax int    // of MissedAll; defaults to 100

	// SkipOverlap leaves a tick out while the run of an earlier one lives.
	SkipOverlap bool
}

// Missed says what becomes of the ticks that no scheduler was up for.
type Missed int8

// What can become of missed ticks.
const (
	MissedLatest Missed = iota // the last of them runs once
	MissedSkip                 // none runs
	MissedAll                  // each runs, the latest MissedMax of them
)

// Limit bounds a task across the fleet, for each value of its key by itself.
type Limit struct {
	Concurrency int           // runs at once; 0: any number
	Rate        int           // starts within Per; 0: any number
	Per         time.Duration // of Rate
	Smooth      bool          // the starts of Rate are spread over Per
}

// Defaults of a [Spec].
const (
	DefaultQueue      = "default"
	DefaultIOTimeout  = 5 * time.Minute
	DefaultCPUTimeout = 30 * time.Minute
)

// Definition is a task as its callers need it: what it is called, and how its
// parameters P and its result R travel. It knows nothing of the function that
// runs, so a program that only queues does not link it. Generated code makes
// one for each task; it is not changed afterwards.
type Definition[P, R any] struct {
	Spec         Spec
	AppendParams func(*P, []byte) ([]byte, error)
	ReadParams   func(*P, *codec.Reader)
	AppendResult func([]byte, *R) ([]byte, error) // nil when R is None
	ReadResult   func(*codec.Reader, *R)          // nil when R is None
	Keys         Keys[P]
}

// Keys append what tells the parameters of one run from those of another to a
// buffer, for the policies that go by parameters. A nil one stands for a
// policy that the task does not have, or that goes by the task alone.
type Keys[P any] struct {
	Unique      func(*P, []byte) []byte
	Concurrency func(*P, []byte) []byte
	Rate        func(*P, []byte) []byte
	Fair        func(*P, []byte) []byte
}

// Task is a definition with the function that runs it, as a consumer needs it.
// A package's generated Tasks function returns its tasks.
type Task struct {
	spec Spec
	// run decodes payload into at most memory bytes, calls the function and
	// returns its encoded result.
	run func(ctx context.Context, payload []byte, memory int) ([]byte, error)
	// params, encode, decode and decodeResult are for programs that show and fill in
	// parameters and results.
	params       reflect.Type // of the struct of the parameters
	encode       func(params any) ([]byte, error)
	decode       func(payload []byte) (params any, err error)
	decodeResult func(b []byte) (any, error)
	hasResult    bool
	// applyPolicies sets the rules of a run from the task's policies and its payload.
	applyPolicies func(run *broker.TaskRun) error
}

// Name returns the task's name on the wire.
func (t Task) Name() string { return t.spec.Name }

// Spec returns what the task's directives say, defaults filled in.
func (t Task) Spec() Spec { return t.spec }

// Bind makes a task of a definition and the function that runs it.
func Bind[P, R any](d *Definition[P, R], fn func(ctx context.Context, p *P) (R, error)) Task {
	var readers sync.Pool
	return Task{
		spec: d.Spec.withDefaults(),
		run: func(ctx context.Context, payload []byte, memory int) ([]byte, error) {
			p := new(P)
			reader, _ := readers.Get().(*codec.Reader)
			if reader == nil {
				reader = new(codec.Reader)
			}
			err := d.decodeParams(reader, payload, memory, p)
			readers.Put(reader)
			if err != nil {
				return nil, err
			}
			result, err := fn(ctx, p)
			if err != nil || d.AppendResult == nil {
				return nil, err
			}
			b, err := d.AppendResult(nil, &result)
			if err != nil {
				return nil, Permanent(fmt.Errorf("encode result of task %s: %w", d.Spec.Name, err))
			}
			return b, nil
		},
		hasResult: d.AppendResult != nil,
		applyPolicies: func(run *broker.TaskRun) error {
			p := new(P)
			if err := d.decodeParams(new(codec.Reader), run.Payload, 0, p); err != nil {
				return err
			}
			d.applyPolicies(p, run)
			return nil
		},
		params: reflect.TypeFor[P](),
		encode: func(params any) ([]byte, error) { return d.AppendParams(params.(*P), nil) },
		decode: func(payload []byte) (any, error) {
			p := new(P)
			return p, d.decodeParams(new(codec.Reader), payload, 0, p)
		},
		decodeResult: func(b []byte) (any, error) {
			var result R
			err := d.decodeResult(b, &result)
			return result, err
		},
	}
}

// decodeParams sets p from payload. It makes at most memory bytes; 0 is the
// codec's default for a payload of that size.
func (d *Definition[P, R]) decodeParams(r *codec.Reader, payload []byte, memory int, p *P) error {
	r.Reset(payload)
	defer r.Reset(nil)
	if memory > 0 {
		r.Limit(memory)
	}
	d.ReadParams(p, r)
	err := r.Done()
	if err == nil {
		return nil
	}
	err = d.Spec.hideDecoding(payload, err)
	if r.Exhausted() {
		err = fmt.Errorf("%w; ConsumerConfig.Codec.Memory sets it", err)
	}
	return &schemaError{fmt.Errorf("decode parameters of task %s: %w", d.Spec.Name, err)}
}

func (d *Definition[P, R]) decodeResult(b []byte, result *R) error {
	if d.ReadResult == nil {
		return nil
	}
	r := codec.NewReader(b)
	d.ReadResult(r, result)
	if err := r.Done(); err != nil {
		return fmt.Errorf("decode result of task %s: %w", d.Spec.Name, err)
	}
	return nil
}

func (s Spec) withDefaults() Spec {
	if s.Queue == "" {
		s.Queue = DefaultQueue
	}
	if s.Timeout == 0 {
		s.Timeout = DefaultIOTimeout
		if s.Kind == CPU {
			s.Timeout = DefaultCPUTimeout
		}
	}
	s.Retry = s.Retry.withDefaults()
	return s
}
