package redis

import (
	"fmt"
)

// Acknowledge is how safe a run has to be before the call that queues it returns nil.
// Calls that wait at the same time wait together. Replica and Fsync need the right to WAIT
// or WAITAOF.
type Acknowledge int8

// The values of Acknowledge, the least safe first.
const (
	// Memory: the server has the run in memory. A crash loses runs that the
	// server's persistence does not keep, a failover those not replicated yet.
	Memory Acknowledge = iota
	// Replica: Config.Replicas replicas have the run in memory too (WAIT).
	Replica
	// Fsync: the run is on the disk of the server, in its append-only file, and on those
	// of Config.Replicas replicas (WAITAOF). Fsync needs Redis 7.2 or newer, and
	// appendonly yes.
	Fsync
)

func (a Acknowledge) String() string {
	switch a {
	case Memory:
		return "memory"
	case Replica:
		return "replica"
	case Fsync:
		return "fsync"
	}
	return fmt.Sprintf("Acknowledge(%d)", int8(a))
}

func parseAcknowledge(s string) (Acknowledge, error) {
	for _, a := range []Acknowledge{Memory, Replica, Fsync} {
		if s == a.String() {
			return a, nil
		}
	}
	return 0, fmt.Errorf("option acknowledge: %.32q is not memory, replica or fsync", s)
}
