package maintenance

import "context"

// Namer is a broker that returns the names of its queues at less cost than their
// lengths. Its method may be called concurrently.
type Namer interface {
	// QueueNames returns the names of the queues that QueueLength returns the lengths
	// of. The caller may change the slice.
	QueueNames(ctx context.Context) ([]string, error)
}
