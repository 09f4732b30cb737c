package broker

import "context"

// Searcher is a broker with [Controls] that looks through runs and dead letters in pages.
// A page looks at no more entries than Look, however many there are. Of runs that have ended a
// broker may find only the latest, and may pass those that have no record any more: a page may
// have found and looked at none, and still not be the last.
type Searcher interface {
	// FindRuns returns a page of the queue's runs in a state, in the order of
	// [Controls.Runs]. It returns [ErrAfter] if After is not that of a page of the same
	// search. A run that changes its state or its place between two pages can be
	// missing or be on both; any other is on one.
	FindRuns(ctx context.Context, queue string, state State, s RunSearch) (*RunPage, error)

	// FindDead returns a page of the queue's dead letters, the newest first. A letter that
	// came later than the first page can be missing.
	FindDead(ctx context.Context, queue string, s DeadSearch) (*DeadPage, error)
}

// Bounds of a search, for fields of it that are zero or larger.
const (
	MaxFound = 1000   // runs or dead letters of one page
	MaxLook  = 10_000 // entries that one page looks at
)

// RunSearch is what [Searcher.FindRuns] looks for.
type RunSearch struct {
	// Match is called for each run that is looked at, in turn. It must neither change nor keep
	// the run, nor block or call the broker. nil: all match.
	Match func(*RunInfo) bool

	After string // the After of the page before; empty: from the beginning
	Max   int    // at most so many runs; 0: MaxFound
	Look  int    // looks at no more entries; 0: MaxLook
}

// RunPage is a page of runs.
type RunPage struct {
	Runs   []*RunInfo
	Looked int    // entries that were looked at
	Total  int64  // entries there are in the state, about; -1: unknown
	After  string // where the next page begins, also if this one has no runs; empty: there is none
}

// DeadSearch is what [Searcher.FindDead] looks for.
type DeadSearch struct {
	Match func(*DeadLetter) bool // as that of [RunSearch]
	After string
	Max   int
	Look  int
}

// DeadPage is a page of dead letters.
type DeadPage struct {
	Letters []*DeadLetter
	Looked  int
	Total   int64
	After   string
}

// Changer is a [Searcher] that changes all that match, in pages of which each is as quick
// as one of a search. Max bounds how many it changes.
type Changer interface {
	// ChangeRuns changes the runs of a queue that are in a state and match.
	ChangeRuns(ctx context.Context, queue string, state State, s RunSearch, c RunChange) (*ChangePage, error)

	// ChangeDead changes the dead letters of a queue that match.
	ChangeDead(ctx context.Context, queue string, s DeadSearch, c DeadChange) (*ChangePage, error)
}

// RunChange is what [Changer.ChangeRuns] does to a run: one of both.
type RunChange struct {
	Cancel *Failure // ends it, as [Controls.Cancel] does
	RunNow bool     // makes a delayed run due at once; its attempts stay as they are
}

// DeadChange is what [Changer.ChangeDead] does to a dead letter.
type DeadChange int8

// The changes of a dead letter.
const (
	Requeue DeadChange = iota // as [Controls.RequeueDead]
	Delete                    // as [Controls.DeleteDead]
)

// ChangePage is what a page of a change did. Beside an error it is what the page did before
// that, and After is where to try again: the After of the call, or that of the next page if
// only a part of the queue cannot be read. It is nil if the page was not begun.
type ChangePage struct {
	Changed int    // of runs in flight that are cancelled: that their sessions learn of it
	Stayed  []Stay // matched, and could not be changed; at most MaxFound
	Looked  int    // entries that were looked at
	Total   int64  // as in [RunPage], before the change
	After   string // where the next page begins; empty: there is none
}

// Stay is a run or a dead letter that was not changed.
type Stay struct {
	ID  string
	Why string // such as "its id is that of a live run"
}
