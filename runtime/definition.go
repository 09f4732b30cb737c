package runtime

import (
	"cmp"
	"fmt"
	"reflect"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/secret"
)

// SupportsGeneratedV1 makes the build fail if generated code and this package do not fit
// together: generated code refers to it. A change of what generated code uses adds
// SupportsGeneratedV2, to which taskgen then refers. V1 stays as long as the code that
// refers to it works as before, and is removed after that.
const SupportsGeneratedV1 = true

// None is the result of a task that returns only an error.
type None = struct{}

// Kind is where a task runs.
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

// Spec is what a task's directives say. Generated code makes it.
type Spec struct {
	Name     string        // on the wire
	Aliases  []string      // other names under which queued runs are this task's
	Doc      string        // the function's doc comment
	Kind     Kind          // IO or CPU
	Queue    string        // defaults to "default"
	From     []string      // further queues from which its runs are taken
	Priority Priority      // defaults to Medium
	Schedule Timing        // when schedulers queue the task; the zero value: never
	Retry    RetryPolicy   // defaults to 4 attempts, 1s..10m, factor 2
	Timeout  time.Duration // of one attempt; defaults to 5m for IO, 30m for CPU
	Expire   time.Duration // a run that has not started this long after it was due is dropped; 0: never
	Keep     time.Duration // how long outcome and result are kept; 0: no record of a success
	// KeepParams keeps the parameters beside the outcome, in the form in which they travel:
	// whoever shows them hides those of Secrets.
	KeepParams bool
	Unique     time.Duration // the unique key is free again this long after the run was due, or at its end; 0: the task has no key
	// UniqueUntilStart frees the key of Unique when the run first starts.
	UniqueUntilStart bool

	By      KeyPaths // what the keys of Unique, Limit and Fair are made of
	Limit   Limit    // of the runs in the queue that execute, or start within a time; the zero value: none
	Fair    bool     // runs are taken round-robin over the values of a parameter
	Memory  int64    // bytes of memory that a child process and what it starts may have, on Linux; beyond it the run ends as oom; 0: no cap
	Env     []string // KEY=value, in the child process's environment while the task runs
	Secrets []string // parameters that are shown as ***
	Tags    []string
	Trace   Trace  // defaults to TraceLink
	Params  string // the wire form of the parameters, in the grammar of internal/schema's package doc
	Result  string // the wire form of the result; empty without one

	noParams bool // it is known that there are none
}

// Queues returns the queues from which the task's runs are taken: Queue, or the default
// queue, and those of From.
func (s Spec) Queues() []string {
	return append([]string{cmp.Or(s.Queue, DefaultQueue)}, s.From...)
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

// Trace is what the span of an attempt is to the span that queued its run, for middleware
// that traces. This package makes no spans.
type Trace int8

// What it can be.
const (
	TraceLink  Trace = iota // in a trace of its own, with a link to that span
	TraceChild              // a child of that span, in the same trace
)

// Timing is when schedulers queue a task: at an interval or by a cron expression, not both.
type Timing struct {
	Every  time.Duration // at multiples of this since the Unix epoch
	Start  bool          // once more when a scheduler starts
	Cron   string        // five fields, or @daily and its like
	Zone   string        // of Cron, an IANA name; defaults to UTC
	Jitter time.Duration // each tick is moved by less than this

	Missed    Missed // defaults to MissedLatest
	MissedMax int    // of MissedAll; defaults to 100

	// SkipOverlap queues no tick while the run of an earlier one is live: queued or running.
	SkipOverlap bool
}

// Missed is what happens to ticks while no scheduler was up, or the task was disabled.
type Missed int8

// What can happen to missed ticks.
const (
	MissedLatest Missed = iota // the last of them runs once
	MissedSkip                 // none runs
	MissedAll                  // each runs, the latest MissedMax of them
)

// KeyPaths names, for each policy with by=, what its key is made of: parameters by their names
// on the wire, or fields of parameters, as in order.customer. taskgen -against compares them.
type KeyPaths struct {
	Unique      []string
	Concurrency []string
	Rate        []string
	Fair        []string
}

// Limit bounds the runs of a task within one queue, across all consumers, separately for
// each value of the task's limit key.
type Limit struct {
	Concurrency int           // runs at once; 0: any number
	Rate        int           // starts within Per; 0: any number
	Per         time.Duration // of Rate
	Smooth      bool          // the starts of Rate are spread evenly over Per
}

// Defaults of a [Spec].
const (
	DefaultQueue      = "default"
	DefaultIOTimeout  = 5 * time.Minute
	DefaultCPUTimeout = 30 * time.Minute
)

// Definition is a task without its function, for programs that only queue it: the task's
// data, and the codec of its parameters P and its result R. Generated code makes one for
// each task. It is not changed afterwards.
type Definition[P, R any] struct {
	Spec         Spec
	AppendParams func(*P, []byte) ([]byte, error)
	ReadParams   func(*P, *codec.Reader)
	AppendResult func([]byte, *R) ([]byte, error) // nil when R is None
	ReadResult   func(*codec.Reader, *R)          // nil when R is None
	Keys         Keys[P]
}

// Keys append to a buffer the values of the parameters on which a policy depends. A nil key
// is for a policy that the task does not have, or that depends on no parameter. Generated
// code makes them.
type Keys[P any] struct {
	Unique      func(*P, []byte) []byte
	Concurrency func(*P, []byte) []byte
	Rate        func(*P, []byte) []byte
	Fair        func(*P, []byte) []byte
}

// decodeParams sets p from payload. It allocates at most memory bytes; 0 is the codec's
// default for a payload of that size.
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
	if len(d.Spec.Secrets) > 0 {
		err = secret.HideDecoding(d.Spec.secretParams(), payload, err)
	}
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

// zeroResult returns the encoded zero value of the result, nil if the task has none.
func (d *Definition[P, R]) zeroResult() []byte {
	if d.AppendResult == nil {
		return nil
	}
	var zero R
	b, err := d.AppendResult(nil, &zero)
	if err != nil {
		return nil
	}
	return b
}

// keyed reports whether a policy of the task depends on parameters.
func (d *Definition[P, R]) keyed() bool {
	k := &d.Keys
	return k.Unique != nil || k.Concurrency != nil || k.Rate != nil || k.Fair != nil
}

// schema is a digest of the parameters' wire form (32-bit FNV-1a), 0 if that is
// unknown.
func (d *Definition[P, R]) schema() uint32 {
	s := Spec{Params: d.Spec.Params, noParams: d.Spec.Params == "" && hasNoParams[P]()}
	return s.schema()
}

// hasNoParams reports whether a task's parameters are a struct without fields.
func hasNoParams[P any]() bool {
	t := reflect.TypeFor[P]()
	return t.Kind() == reflect.Struct && t.NumField() == 0
}

// schema is that of a definition, for the spec of a [Task].
func (s *Spec) schema() uint32 {
	if s.Params == "" && !s.noParams {
		return 0
	}
	h := uint32(2166136261)
	for i := range len(s.Params) {
		h = (h ^ uint32(s.Params[i])) * 16777619
	}
	return max(h, 1)
}

// secretParams returns the task's parameters for hiding the secret ones.
func (s *Spec) secretParams() secret.TaskParams {
	return secret.TaskParams{Names: s.Secrets, WireForm: s.Params}
}

// initRun sets what the task's directives say of its runs.
func (s *Spec) initRun(run *broker.TaskRun, now time.Time) {
	run.Task, run.Queue, run.Kind, run.Priority = s.Name, s.Queue, s.Kind, s.Priority
	if run.Queue == "" {
		run.Queue = DefaultQueue
	}
	run.QueuedAt, run.Expire, run.Keep, run.KeepParams = now, s.Expire, s.Keep, s.KeepParams
	if run.Schema == 0 {
		run.Schema = s.schema()
	}
}
