package memory

import "github.com/taskgen/taskgen/broker"

// program is whose limits hold in place of the numbers that runs bring.
type program struct {
	limits  *broker.ProgramLimits
	session *Session // that gave them last
}

// useLimits notes the limits of the program of a session that takes. The limits of a newer
// one hold while its session has a lease.
func (b *Broker) useLimits(s *Session, limits *broker.ProgramLimits, now clock) {
	if limits == nil {
		return
	}
	was := b.program
	if was.limits != nil && was.limits.Version > limits.Version && !was.session.left && was.session.ends.at > now.mono {
		return
	}
	b.program = program{limits: limits, session: s}
	if was.limits == limits {
		return
	}
	for _, q := range b.queues {
		q.program = limits
		for _, l := range q.limits {
			q.tend(l, now)
		}
	}
}
