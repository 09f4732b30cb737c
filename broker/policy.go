package broker

import "time"

// Policies is a [Leaser] that keeps the [Rules] of runs, and queues the Next of an
// [Outcome].
//
// A limit counts a run from its taking until it is finished, given back or recovered. A
// run that exceeds a limit waits, behind those that wait for it already. It counts as
// waiting in [Broker.QueueLength], spends no attempt, and does not delay other runs. Runs
// with limits are not prefetched.
//
// The values of Fair take turns, and the runs of one value keep the order queued. Runs
// without Fair count as one value. Runs that wait for a limit take turns too.
type Policies interface {
	// Policies returns the policies that the broker keeps. The runtime queues no run
	// with another one. It is called often and must not block.
	Policies() PolicySet
}

// PolicySet is a set of policies.
type PolicySet uint8

// The policies.
const (
	PolicyUnique PolicySet = 1 << iota // Unique, UniqueFor and UntilStart of [Rules]
	PolicyLimits                       // Limits of [Rules]
	PolicyFair                         // Fair of [Rules]
	PolicyNext                         // Next of [Outcome]

	AllPolicies = PolicyUnique | PolicyLimits | PolicyFair | PolicyNext
)

// Rules decide when a run may start, and whether it may be queued. Runs may share them:
// replace the rules of a copy, do not change them.
type Rules struct {
	Unique     string        // while a run with this key lives in the queue, another one is a duplicate; empty: none
	UniqueFor  time.Duration // the key is free again this long after the run is due, even if it lives; 0: at its end
	UntilStart bool          // the key of Unique is free again once the run has started, see [Starter]
	Limits     []Limit       // what bounds its start, at most MaxLimits
	Fair       string        // runs of one queue, kind and priority are taken in turn over its values
}

// OrZero returns the rules, or the zero value for nil.
func (r *Rules) OrZero() Rules {
	if r == nil {
		return Rules{}
	}
	return *r
}

// EnsureRules returns the run's rules. It makes them if there are none.
func (r *TaskRun) EnsureRules() *Rules {
	if r.Rules == nil {
		r.Rules = new(Rules)
	}
	return r.Rules
}

// Limit bounds the runs of a queue that share its key.
type Limit struct {
	Key string        // shared by the runs that count together
	Max int           // at least 1
	Per time.Duration // 0: sessions hold at most Max at once; else at most Max are taken within any time this long, by the broker's clock
}
