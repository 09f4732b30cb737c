package runtime

import (
	"crypto/sha256"
	"encoding/base64"
	"math"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// applyPolicies sets the rules of a run from the task's policies and these parameters.
func (d *Definition[P, R]) applyPolicies(p *P, run *broker.TaskRun) {
	s := &d.Spec
	if s.Unique > 0 {
		rules := run.EnsureRules()
		rules.Unique, rules.UniqueFor = policyKey(s.Name, p, d.Keys.Unique), s.Unique
		rules.UntilStart = s.UniqueUntilStart
	}
	if s.Limit.Concurrency > 0 {
		rules := run.EnsureRules()
		rules.Limits = append(rules.Limits, broker.Limit{
			Key: policyKey(s.Name+"/running", p, d.Keys.Concurrency), Max: s.Limit.Concurrency,
		})
	}
	if s.Limit.Rate > 0 {
		rules := run.EnsureRules()
		rules.Limits = s.Limit.appendRate(rules.Limits, policyKey(s.Name+"/rate", p, d.Keys.Rate))
	}
	if s.Fair && d.Keys.Fair != nil {
		run.EnsureRules().Fair = policyKey("", p, d.Keys.Fair) // one tenant's turn is one for all tasks of the queue
	}
}

// smoothStep is the shortest time that a smooth rate is counted in: to wake a
// consumer for each start of thousands a second would be all that it does.
const smoothStep = 20 * time.Millisecond

// appendRate appends the limits that a rate is. A smooth one is the same rate
// counted in the time that one start has, or as many as smoothStep has; if these
// do not add up to the rate it is counted in its own time as well.
func (l *Limit) appendRate(limits []broker.Limit, key string) []broker.Limit {
	whole := broker.Limit{Key: key, Max: l.Rate, Per: l.Per}
	each := time.Duration(math.Ceil(float64(l.Per) / float64(l.Rate)))
	n := 1
	if each < smoothStep {
		n = int(math.Ceil(float64(smoothStep) / float64(l.Per) * float64(l.Rate)))
	}
	if !l.Smooth || n >= l.Rate {
		return append(limits, whole)
	}
	if l.Rate%n != 0 {
		limits = append(limits, whole)
	}
	step := time.Duration(math.Ceil(float64(l.Per) / float64(l.Rate) * float64(n)))
	return append(limits, broker.Limit{Key: key + "/smooth", Max: n, Per: step})
}

// policyKey is the name and, unless the policy goes by the task alone, a digest
// of what it goes by: values can be long, or secret.
func policyKey[P any](name string, p *P, appendKey func(*P, []byte) []byte) string {
	if appendKey == nil {
		return name
	}
	sum := sha256.Sum256(appendKey(p, nil))
	return name + "/" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// policiesOf returns the policies that a broker keeps.
func policiesOf(b broker.Broker) broker.PolicySet {
	if p, ok := b.(broker.Policies); ok {
		return p.Policies()
	}
	return 0
}
