package runtime

import (
	"crypto/sha256"
	"encoding/base64"
	"math"
	"math/rand/v2"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/instance"
)

// applyPolicies sets the rules of a run from the task's policies and these parameters.
func (d *Definition[P, R]) applyPolicies(p *P, run *broker.TaskRun) {
	s := &d.Spec
	if s.Unique > 0 {
		rules := run.EnsureRules()
		rules.Unique, rules.UniqueFor = policyKey(s.firstName(), p, d.Keys.Unique), s.Unique
		rules.UntilStart = s.UniqueUntilStart
	}
	if s.Limit.Concurrency > 0 {
		rules := run.EnsureRules()
		rules.Limits = append(rules.Limits, broker.Limit{
			Key: policyKey(s.firstName()+"/running", p, d.Keys.Concurrency), Max: s.Limit.Concurrency,
		})
	}
	if s.Limit.Rate > 0 {
		rules := run.EnsureRules()
		rules.Limits = s.Limit.appendRate(rules.Limits, policyKey(s.firstName()+"/rate", p, d.Keys.Rate))
	}
	if s.Fair && d.Keys.Fair != nil {
		run.EnsureRules().Fair = policyKey("", p, d.Keys.Fair) // one tenant's turn is one for all tasks of the queue
	}
}

// limits returns the task's limits, by the stems of their keys.
func (d *Definition[P, R]) limits() (limits []broker.Limit) {
	stem := func(policy string, keyed bool) string {
		if keyed {
			policy += "/*"
		}
		return d.Spec.firstName() + policy
	}
	l := &d.Spec.Limit
	if l.Concurrency > 0 {
		limits = append(limits, broker.Limit{Key: stem("/running", d.Keys.Concurrency != nil), Max: l.Concurrency})
	}
	if l.Rate > 0 {
		// Runs of another version may have a smooth rate where this one is not, or none where it is.
		whole := broker.Limit{Key: stem("/rate", d.Keys.Rate != nil), Max: l.Rate, Per: l.Per}
		limits = append(limits, whole, broker.Limit{Key: whole.Key + "/smooth", Max: l.Rate, Per: l.Per})
		limits = l.appendRate(limits, whole.Key) // the last one holds
	}
	return limits
}

// programLimits returns the limits of the tasks, nil if none has any.
func programLimits(tasks []*Task) *broker.ProgramLimits {
	all := map[string]broker.Limit{}
	for _, t := range tasks {
		for _, l := range t.limits {
			all[l.Key] = l
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &broker.ProgramLimits{Version: instance.Built().UnixMilli(), Limits: all}
}

// smoothWindow is the shortest time in which a smooth rate is counted, so that thousands of
// starts a second do not each wake a consumer.
const smoothWindow = 20 * time.Millisecond

// appendRate appends the limits that make up a rate. A smooth rate is counted in a shorter
// time: that of one start, or of the starts in smoothWindow. If a multiple of this is not
// the rate, the rate is counted in its own time as well.
func (l *Limit) appendRate(limits []broker.Limit, key string) []broker.Limit {
	whole := broker.Limit{Key: key, Max: l.Rate, Per: l.Per}
	each := time.Duration(math.Ceil(float64(l.Per) / float64(l.Rate)))
	n := 1
	if each < smoothWindow {
		n = int(math.Ceil(float64(smoothWindow) / float64(l.Per) * float64(l.Rate)))
	}
	if !l.Smooth || n >= l.Rate {
		return append(limits, whole)
	}
	if l.Rate%n != 0 {
		limits = append(limits, whole)
	}
	window := time.Duration(math.Ceil(float64(l.Per) / float64(l.Rate) * float64(n)))
	return append(limits, broker.Limit{Key: key + "/smooth", Max: n, Per: window})
}

// firstName returns the name by which the keys of the task's policies go: its first alias, so
// that the versions before and after a change of the name have the same keys.
func (s *Spec) firstName() string {
	if len(s.Aliases) > 0 {
		return s.Aliases[0]
	}
	return s.Name
}

// policyKey returns the name and, if the policy depends on parameters, a digest of their
// values, which can be long, or secret.
func policyKey[P any](name string, p *P, appendKey func(*P, []byte) []byte) string {
	if appendKey == nil {
		return name
	}
	return name + "/" + digestOf(appendKey(p, nil))
}

// digestOf returns the digest of values in their canonical form: equal ones have the same,
// also if they were encoded otherwise, as by another language or from an unordered map.
func digestOf(values []byte) string {
	var buf [128]byte
	canonical, err := codec.AppendCanonical(buf[:0], values)
	if err != nil {
		canonical = values // of an encoder that failed: nothing is queued with it
	}
	sum := sha256.Sum256(canonical)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// policiesOf returns the policies of a broker.
func policiesOf(b broker.Broker) broker.PolicySet {
	if p, ok := b.(broker.Policies); ok {
		return p.Policies()
	}
	return 0
}

// maxDelay keeps due times inside what clocks and brokers can represent.
const maxDelay = 100 * 365 * 24 * time.Hour

// RetryPolicy is how often a task is attempted and how long the back-off between attempts
// is. The wait after the nth attempt is drawn evenly from zero to Min × Factor^(n-1), at
// most Max ("full jitter",
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
type RetryPolicy struct {
	Attempts int           // the first one included. Defaults to 4
	Min      time.Duration // Defaults to 1s
	Max      time.Duration // Defaults to 10m
	Factor   float64       // Defaults to 2
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = 4
	}
	if p.Min == 0 {
		p.Min = time.Second
	}
	if p.Max == 0 {
		p.Max = 10 * time.Minute
	}
	if p.Factor == 0 {
		p.Factor = 2
	}
	return p
}

// ceiling is the longest wait after the nth attempt, from 1.
func (p RetryPolicy) ceiling(n int) time.Duration {
	d := float64(p.Min) * math.Pow(p.Factor, float64(n-1))
	if d >= float64(p.Max) {
		return p.Max
	}
	return time.Duration(d)
}

// wait draws the wait after the nth attempt. It is never zero, so that a retry
// does not overtake what waits already.
func (p RetryPolicy) wait(n int) time.Duration {
	return 1 + rand.N(max(p.ceiling(n), time.Millisecond))
}

// spread draws a wait that is no shorter than d, and longer by at most half of it
// or a minute.
func spread(d time.Duration) time.Duration {
	if d >= maxDelay {
		return d
	}
	return d + rand.N(min(d/2, time.Minute)+1)
}
