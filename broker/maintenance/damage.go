package maintenance

import "github.com/taskgen/taskgen/broker"

// Damages is a broker that reports what it found broken, and went on without. Methods
// may be called concurrently.
type Damages interface {
	// Damaged returns what this value of the broker has found since it was called
	// last, at most MaxDamages, and does not block.
	Damaged() []Damage
}

// MaxDamages is how many damages [Damages.Damaged] returns at most; the others are
// counted.
const MaxDamages = 1000

// Damage is one thing of a queue that a broker could not use.
type Damage struct {
	Queue string
	Why   string // it could not be used, empty for Dropped

	// Run is of a stored run that became a dead letter, with its ID and Task as far
	// as these can be read, and nil of anything else.
	Run *broker.TaskRun

	// Key is where it was stored, of anything but a run, and Moved where it is now;
	// an empty Moved says that it was corrected where it is.
	Key, Moved string

	// Dropped is how many dead letters of the queue were dropped, as it keeps no more.
	Dropped int64

	More int // how many others were found that are not returned
}
