package memory

import (
	"github.com/taskgen/taskgen/broker"
)

// lock is a run's hold on its unique key.
type lock struct {
	key   string
	e     *storedRun
	timed bool    // it ends before the run does
	ends  instant // if timed
}

// Policies returns all policies.
func (b *Broker) Policies() broker.PolicySet { return broker.AllPolicies }

// lockKeys takes the unique keys of a call's runs, all or none.
func (q *queue) lockKeys(chunks [][]storedRun, now clock) error {
	taken := make(map[string]*storedRun)
	var conflict broker.DuplicateError
	index := 0
	for _, chunk := range chunks {
		for i := range chunk {
			e := &chunk[i]
			if key := e.run.Rules.OrZero().Unique; key != "" {
				owner := taken[key]
				if l := q.unique[key]; l != nil && !l.over(now) {
					owner = l.e
				}
				if owner != nil {
					conflict.Runs = append(conflict.Runs, broker.Duplicate{Index: index, ID: owner.run.ID})
				} else {
					taken[key] = e
				}
			}
			index++
		}
	}
	if len(conflict.Runs) > 0 {
		return &conflict
	}
	for key, e := range taken {
		l := &lock{key: key, e: e}
		if rules := e.run.Rules; rules.UniqueFor > 0 {
			l.timed, l.ends = true, now.due(&e.run).plus(rules.UniqueFor)
		}
		e.getRare().lock, q.unique[key] = l, l
	}
	return nil
}

func (l *lock) over(now clock) bool { return l.timed && now.until(l.ends) <= 0 }

// unlockKey frees the key of a run that has ended, unless another has it since.
func (q *queue) unlockKey(e *storedRun) {
	if l := e.rare.lock; l != nil && q.unique[l.key] == l {
		delete(q.unique, l.key)
	}
}
