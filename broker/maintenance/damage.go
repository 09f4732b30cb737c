package maintenance

import "github.com/taskgen/taskgen/broker"

// Damages is a broker that reports what it found broken and worked around. Its method
// may be called concurrently.
type Damages interface {
	// Damaged returns the damages that this value of the broker has found since the last
	// call, at most MaxDamages. It does not block.
	Damaged() []Damage
}

// MaxDamages is how many damages [Damages.Damaged] returns at most. The others are
// counted.
const MaxDamages = 1000

// Damage is a run, a key or a value of a queue that a broker could not use.
type Damage struct {
	Queue string
	Why   string // it could not be used; empty for Trimmed

	// Run is set if a stored run became a dead letter. It has the ID and Task as far as
	// these can be read.
	Run *broker.TaskRun

	// Key is set for anything else: where it was stored. Moved is where it is now; if it
	// is empty, it was corrected in place.
	Key, Moved string

	// Trimmed is how many dead letters of the queue were removed, because the queue had
	// too many.
	Trimmed int64

	More int // the number of further damages that are not returned
}
