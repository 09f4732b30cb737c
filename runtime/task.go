package runtime

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/naming"
	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/wireform"
)

// Task is a task with its function, for a [Consumer]. A package's generated Tasks function
// returns its tasks.
type Task struct {
	spec Spec
	// run decodes payload into at most memory bytes, calls the function and
	// returns what that returned.
	run func(ctx context.Context, payload []byte, memory int) (answer, error)
	// params, encode, decode and decodeResult are for programs that show and fill in
	// parameters and results.
	params       reflect.Type // of the struct of the parameters
	encode       func(params any) ([]byte, error)
	decode       func(payload []byte) (params any, err error)
	decodeResult func(b []byte) (any, error)
	encodeResult func(result any) ([]byte, error) // nil if it has none
	hasResult    bool
	inProcess    bool // no child process, whatever the kind
	// applyPolicies sets the rules of a run from the task's policies and its payload.
	applyPolicies func(run *broker.TaskRun) error
	// limitValues appends the values of the parameters of a payload that its limits depend on: of
	// concurrency, or of rate.
	limitValues func(payload []byte, rate bool) ([]byte, error)
	limits      []broker.Limit // with stems as keys, see [broker.LimitStem]
}

// Name returns the task's name on the wire.
func (t Task) Name() string { return t.spec.Name }

// Spec returns what the task's directives say, with defaults.
func (t Task) Spec() Spec { return t.spec }

// Bind makes a task of a definition and its function. Generated code calls it.
func Bind[P, R any](d *Definition[P, R], fn func(ctx context.Context, p *P) (R, error)) Task {
	return bind(d, func(ctx context.Context, p *P) (answer, error) {
		result, err := fn(ctx, p)
		if err != nil || d.AppendResult == nil {
			return answer{}, err
		}
		b, err := d.AppendResult(nil, &result)
		if err != nil {
			return answer{}, Permanent(fmt.Errorf("encode result of task %s: %w", d.Spec.Name, err))
		}
		return answer{result: b}, nil
	})
}

// BindCall makes a task of a definition and of a function that returns a [Call]: R is the
// result of the call's last run. Generated code calls it, as it calls [Bind] for other tasks:
//
//	taskrt.BindCall(parseFeedTask, func(ctx context.Context, p *ParseFeedParams) (taskrt.Call[Summary], error) {
//		return ParseFeed(ctx, p.URL)
//	})
func BindCall[P, R any](d *Definition[P, R], fn func(ctx context.Context, p *P) (Call[R], error)) Task {
	return bind(d, func(ctx context.Context, p *P) (answer, error) {
		call, err := fn(ctx, p)
		if err != nil {
			return answer{}, err
		}
		first, err := returnCall(ctx, call.orInvalid())
		return answer{call: &returned{first: first}}, err
	})
}

// bind makes a task whose parameters fn gets decoded.
func bind[P, R any](d *Definition[P, R], fn func(ctx context.Context, p *P) (answer, error)) Task {
	var readers sync.Pool
	var encodeResult func(result any) ([]byte, error)
	if d.AppendResult != nil {
		encodeResult = func(result any) ([]byte, error) {
			r, ok := result.(R)
			if !ok {
				return nil, fmt.Errorf("the result is a %T", result)
			}
			return d.AppendResult(nil, &r)
		}
	}
	spec := d.Spec.withDefaults()
	spec.noParams = spec.Params == "" && hasNoParams[P]()
	return Task{
		spec: spec,
		run: func(ctx context.Context, payload []byte, memory int) (answer, error) {
			p := new(P)
			reader, _ := readers.Get().(*codec.Reader)
			if reader == nil {
				reader = new(codec.Reader)
			}
			err := d.decodeParams(reader, payload, memory, p)
			readers.Put(reader)
			if err != nil {
				return answer{}, err
			}
			return fn(ctx, p)
		},
		hasResult:    d.AppendResult != nil,
		encodeResult: encodeResult,
		applyPolicies: func(run *broker.TaskRun) error {
			p := new(P)
			if err := d.decodeParams(new(codec.Reader), run.Payload, 0, p); err != nil {
				return err
			}
			d.applyPolicies(p, run)
			return nil
		},
		limitValues: func(payload []byte, rate bool) ([]byte, error) {
			p, appendKey := new(P), d.Keys.Concurrency
			if rate {
				appendKey = d.Keys.Rate
			}
			if err := d.decodeParams(new(codec.Reader), payload, 0, p); err != nil || appendKey == nil {
				return nil, err
			}
			return appendKey(p, nil), nil
		},
		limits: d.limits(),
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

// WithFunc returns the task with another function, for tests. Its parameters pass through the
// codec before fn gets them, as a pointer that [Task.NewParams] returns, and so does its result.
func (t Task) WithFunc(fn func(ctx context.Context, params any) (result any, err error)) Task {
	decode, encode, name := t.decode, t.encodeResult, t.spec.Name
	t.run = func(ctx context.Context, payload []byte, _ int) (answer, error) {
		params, err := decode(payload)
		if err != nil {
			return answer{}, err
		}
		result, err := fn(ctx, params)
		if err != nil || encode == nil {
			return answer{}, err
		}
		b, err := encode(result)
		if err != nil {
			return answer{}, Permanent(fmt.Errorf("encode result of task %s: %w", name, err))
		}
		return answer{result: b}, nil
	}
	return t
}

// InProcess returns a cpu task that runs in the process of the consumer, for tests: it has no
// memory cap and no environment of its own, and is not killed at its timeout.
func (t Task) InProcess() Task {
	t.inProcess = true
	return t
}

// Param is a parameter of a task.
type Param struct {
	Name     string   // in the function, and on the wire
	Old      []string // names under which it is also read, see //task:rename
	Field    int      // its index in the struct that [Task.NewParams] points to
	Secret   bool     // it is shown as ***
	Optional bool     // a run may lack it
}

// Params returns the parameters of the task, in order.
func (t Task) Params() []Param {
	typ := t.params
	if typ.Kind() != reflect.Struct {
		return nil
	}
	wire := wireform.Params(t.spec.Params)
	params := make([]Param, 0, typ.NumField())
	for i := range typ.NumField() {
		field := typ.Field(i)
		if !field.IsExported() {
			continue
		}
		p := Param{Name: naming.Unexported(field.Name), Field: i, Optional: field.Type.Kind() == reflect.Pointer}
		if len(wire) == typ.NumField() {
			p.Name, p.Old, p.Optional = wire[i].Name, wire[i].Old, p.Optional || wire[i].Optional
		}
		p.Secret = slices.ContainsFunc(t.spec.Secrets, func(name string) bool { return strings.EqualFold(name, p.Name) })
		params = append(params, p)
	}
	return params
}

// NewParams returns a pointer to a new struct of the task's parameters, such as
// *HeavyCalculationParams, with the values of //task:default set.
func (t Task) NewParams() any {
	params, _ := t.decode(codec.AppendMapLen(nil, 0)) // the error is of those without a default
	return params
}

// EncodeParams returns the payload of a run. params is a pointer as [Task.NewParams]
// returns. It returns an error if a value cannot be encoded. The error of a task with
// secret parameters quotes no value.
func (t Task) EncodeParams(params any) (payload []byte, err error) {
	defer recovered(&err)
	if payload, err = t.encode(params); err != nil {
		return nil, secret.EncodeError(err, t.spec.Secrets)
	}
	return payload, nil
}

// DecodeParams returns the parameters of a payload, as [Task.NewParams] does. If the payload
// does not fit the task, it returns an error and beside it the parameters that it could
// read.
func (t Task) DecodeParams(payload []byte) (params any, err error) {
	defer recovered(&err)
	return t.decode(payload)
}

// HasResult reports whether the task returns more than an error.
func (t Task) HasResult() bool { return t.hasResult }

// DecodeResult returns a result as the task returned it, or [None] if the task has no
// result.
func (t Task) DecodeResult(b []byte) (result any, err error) {
	defer recovered(&err)
	return t.decodeResult(b)
}

// recovered makes a panic in the application's marshalling the error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the program's own marshalling panicked: %.200s", fmt.Sprint(r))
	}
}

// taskSet is the tasks that a process knows.
type taskSet struct {
	list   []*Task          // in the order of their names
	byName map[string]*Task // aliases included
}

// MergeTasks returns the tasks of all sets in the order of their names. It returns an
// error if two of them share a name or an alias.
func MergeTasks(sets ...[]Task) ([]Task, error) {
	s, err := newTaskSet(sets)
	if err != nil {
		return nil, err
	}
	tasks := make([]Task, len(s.list))
	for i, t := range s.list {
		tasks[i] = *t
	}
	return tasks, nil
}

// newTaskSet returns the tasks of all sets. It refuses two tasks with one name.
func newTaskSet(sets [][]Task) (taskSet, error) {
	s := taskSet{byName: make(map[string]*Task)}
	for _, set := range sets {
		for i := range set {
			t := &set[i]
			for _, name := range append([]string{t.spec.Name}, t.spec.Aliases...) {
				if other, ok := s.byName[name]; ok {
					return taskSet{}, fmt.Errorf("two tasks are named %q: %q and %q; give one another //task:name", name, summary(other), summary(t))
				}
				s.byName[name] = t
			}
			s.list = append(s.list, t)
		}
	}
	slices.SortFunc(s.list, func(a, b *Task) int { return cmp.Compare(a.spec.Name, b.spec.Name) })
	return s, nil
}

// summary returns the first sentence of a task's doc.
func summary(t *Task) string {
	first, _, _ := strings.Cut(t.spec.Doc, ".")
	return strings.Join(strings.Fields(first), " ")
}

// needsChildren reports whether a task runs in child processes.
func (s taskSet) needsChildren() bool {
	return slices.ContainsFunc(s.list, func(t *Task) bool { return t.spec.Kind == CPU && !t.inProcess })
}

// secretsOf returns the secrets of a run with a payload, nil if its task has no secret
// parameters.
func (t *Task) secretsOf(payload []byte) *secret.Run {
	if len(t.spec.Secrets) == 0 {
		return nil
	}
	params := t.spec.secretParams()
	params.Values = t.secretValues
	return secret.NewRun(params, payload)
}

// secretValues returns the values of a payload's secret parameters, none if it cannot be
// decoded.
func (t *Task) secretValues(payload []byte) (values []reflect.Value) {
	params, err := t.decode(payload)
	if err != nil {
		return nil
	}
	v := reflect.ValueOf(params).Elem()
	for _, param := range t.Params() { // none unless v is a struct
		if param.Secret {
			values = append(values, v.Field(param.Field))
		}
	}
	return values
}
