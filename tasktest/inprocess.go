package tasktest

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Seed has the kit draw the back-off between attempts from a seed, so that each execution of
// the test waits the same: the nth wait after the same attempt of a task is always the same.
func Seed(seed uint64) Option {
	return func(k *Kit) { k.retry = newSeeded(k, seed).wait }
}

// seeded draws waits.
type seeded struct {
	kit   *Kit
	seed  uint64
	drawn map[string]*rand.Rand
}

func newSeeded(k *Kit, seed uint64) *seeded {
	return &seeded{kit: k, seed: seed, drawn: map[string]*rand.Rand{}}
}

// wait is a Retry of [taskrt.ConsumerConfig] with the task's own policy: evenly from zero to
// Min × Factor^(n-1), at most Max.
func (s *seeded) wait(run *taskrt.Run, _ error) (wait time.Duration, again bool) {
	policy := s.kit.spec(run.Task).Retry
	if run.Attempt >= policy.Attempts {
		return 0, false
	}
	most := min(float64(policy.Min)*math.Pow(policy.Factor, float64(run.Attempt-1)), float64(policy.Max))
	s.kit.mu.Lock()
	defer s.kit.mu.Unlock()
	key := fmt.Sprintf("%s %d", run.Task, run.Attempt)
	if s.drawn[key] == nil {
		h := fnv.New64a()
		h.Write([]byte(key))
		s.drawn[key] = rand.New(rand.NewPCG(s.seed, h.Sum64()))
	}
	return 1 + time.Duration(s.drawn[key].Int64N(max(int64(most), int64(time.Millisecond)))), true
}

// spec returns the policies of a task, by any of its names.
func (k *Kit) spec(name string) taskrt.Spec {
	for _, task := range k.tasks {
		if spec := task.Spec(); spec.Name == name || slices.Contains(spec.Aliases, name) {
			return spec
		}
	}
	return taskrt.Spec{}
}

// tellUnsupported is middleware that notes what a cpu task has and its process would do.
func (k *Kit) tellUnsupported(next taskrt.Handler) taskrt.Handler {
	return func(ctx context.Context, run *taskrt.Run) error {
		spec := k.spec(run.Task)
		if spec.Kind != taskrt.CPU || k.children || k.isReplaced(spec.Name) {
			return next(ctx, run)
		}
		if spec.Memory > 0 {
			k.note(spec.Name, "//task:memory is unsupported: it can take more", false)
		}
		if len(spec.Env) > 0 {
			k.note(spec.Name, "//task:env is unsupported: it has the environment of the test", false)
		}
		err := next(ctx, run)
		if !run.Deadline.IsZero() && time.Now().After(run.Deadline) {
			k.note(spec.Name, "killing it at //task:timeout is unsupported: it ran on past its timeout, at which a child process is killed", true)
		}
		return err
	}
}

// note is what the kit has to tell about a task.
type note struct {
	text string
	fail bool // it has the test fail
	told bool
}

// note notes something about a task once.
func (k *Kit) note(task, what string, fail bool) {
	text := fmt.Sprintf("cpu task %s runs in the process of the test, where %s; give New the option tasktest.Children() for a child process", task, what)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.ContainsFunc(k.notes, func(n *note) bool { return n.text == text }) {
		k.notes = append(k.notes, &note{text: text, fail: fail})
	}
}

// tell logs the notes that were not told.
func (k *Kit) tell(t testing.TB) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range k.notes {
		switch {
		case n.told:
		case n.fail:
			t.Errorf("tasktest: %s", n.text)
		default:
			t.Logf("tasktest: %s", n.text)
		}
		n.told = true
	}
}

func (k *Kit) isReplaced(task string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.replaced[task] != nil
}
