package redis

import (
	"github.com/taskgen/taskgen/broker"
)

// Policies returns all policies.
func (b *Broker) Policies() broker.PolicySet { return broker.AllPolicies }

// maxSkipped bounds what is kept for the next Finish or Recover: a process that only
// cancels runs calls neither.
const maxSkipped = 1000
