package redis

import (
	"fmt"
)

// Acknowledge says how safe a run has to be before its queueing returns nil.
type Acknowledge int8

// How safe a run can be asked to be. Each costs the caller what it waits for;
// callers that wait at the same time wait together. A user with few rights needs
// that to WAIT or WAITAOF.
const (
	// Memory: the server has it. Its persistence decides what a crash loses,
	// and a failover loses what was not replicated yet.
	Memory Acknowledge = iota
	// Replica: Config.Replicas replicas have it in memory too (WAIT).
	Replica
	// Fsync: it is in the append-only file of the server, written through to
	// its disk, and in those of Config.Replicas replicas (WAITAOF). Redis 7.2
	// or newer is needed, with appendonly yes.
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
