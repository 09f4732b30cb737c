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

// policyKey returns the name and, if the policy depends on parameters, a digest of their
// values, which can be long, or secret.
func policyKey[P any](name string, p *P, appendKey func(*P, []byte) []byte) string {
	if appendKey == nil {
		return name
	}
	sum := sha256.Sum256(appendKey(p, nil))
	return name + "/" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// policiesOf returns the policies of a broker.
func policiesOf(b broker.Broker) broker.PolicySet {
	if p, ok := b.(broker.Policies); ok {
		return p.Policies()
	}
	return 0
}
