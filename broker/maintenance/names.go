package maintenance

import "context"

// Namer is a broker that returns the names of its queues at less cost than their
// lengths. Its method may be called concurrently.
type Namer interface {
	// QueueNames returns the names of the queues that QueueLength returns the lengths
	// of. The caller may change the slice.
	QueueNames(ctx context.Context) ([]string, error)
}

// Prefixer is a broker whose keys begin with a prefix, so that several applications can
// share a server. Its method does not block.
type Prefixer interface {
	// Prefix returns the prefix.
	Prefix() string
}
