package runtime

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/taskgen/taskgen/broker"
)

// police sets what the task's policies say of a run with these parameters.
func (d *Definition[P, R]) police(p *P, run *broker.TaskRun) {
	s := &d.Spec
	if s.Unique > 0 {
		rules := run.EnsureRules()
		rules.Unique, rules.UniqueFor = policyKey(s.Name, p, d.Keys.Unique), s.Unique
	}
	if s.Limit.Concurrency > 0 {
		rules := run.EnsureRules()
		rules.Limits = append(rules.Limits, broker.Limit{
			Key: policyKey(s.Name+"/running", p, d.Keys.Concurrency), Max: s.Limit.Concurrency,
		})
	}
	if s.Limit.Rate > 0 {
		rules := run.EnsureRules()
		rules.Limits = append(rules.Limits, broker.Limit{
			Key: policyKey(s.Name+"/rate", p, d.Keys.Rate), Max: s.Limit.Rate, Per: s.Limit.Per,
		})
	}
	if s.Fair && d.Keys.Fair != nil {
		run.EnsureRules().Fair = policyKey("", p, d.Keys.Fair) // one tenant's turn is one for all tasks of the queue
	}
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

// refusePolicies is for brokers that keep none: a policy that is silently left
// out is worse than none. Those of what follows are the broker's to keep too.
func refusePolicies(run *broker.TaskRun) error {
	for _, c := range run.Links.OrZero().Then {
		if err := refusePolicies(c.Run); err != nil {
			return err
		}
	}
	var directive string
	switch rules := run.Rules.OrZero(); {
	case rules.Unique != "":
		directive = "unique"
	case len(rules.Limits) > 0 && rules.Limits[0].Per == 0:
		directive = "concurrency"
	case len(rules.Limits) > 0:
		directive = "rate"
	case rules.Fair != "":
		directive = "fair"
	default:
		return nil
	}
	return fmt.Errorf("task %s has //task:%s, which this broker does not keep; use one that has broker.Policies, such as the embedded one or Redis", run.Task, directive)
}
