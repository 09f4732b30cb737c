package broker

import (
	"context"
	"fmt"
	"time"
)

// Groups is a broker with [Records] that queues a run once a group of others has ended.
type Groups interface {
	// QueueGroup stores members, all of them or none, as QueueTasks does. Their Links name
	// the group that next awaits, and their place in it. The step that ends the last member,
	// in any way, queues next, which may be for another queue. If the Unique or own id of
	// next is that of a live run, the error is a [DuplicateError] with the Index -1. QueueGroup
	// refuses what [CheckGroup] does.
	//
	// Members may be for several queues, and a member may await a group of its own, whose
	// members are its [Links].Members. QueueGroup stores such a call in one step, and queues
	// its runs from there on: a run whose id or Unique is that of a live run is skipped then,
	// as one of [Outcome].Next is.
	//
	// A member that succeeds with an Outcome.Next of its own group and place has not ended:
	// that run takes its place. A member that is skipped as a duplicate has failed, and so has
	// one whose place such a run was to take. The members of a run that is skipped are not
	// queued.
	//
	// A dead letter counts as failed. If it is queued again and succeeds while the group is
	// known, the success counts instead. A member that GetTaskRuns takes counts as failed
	// too: the broker does not learn how it ends.
	//
	// Until next is queued it is in no count and no list. It holds its id and unique key,
	// and has a delayed record if it has Keep. It can be cancelled; the end of the group
	// then queues nothing. Its Delay and QueuedAt count from its queueing.
	QueueGroup(ctx context.Context, next *TaskRun, members ...*TaskRun) error

	// Members returns the records of a group's members in their order, nil for one that
	// has not ended. The group is known while the run that awaits it lives, however long that
	// waits, and for [GroupKept] at most while that is a dead letter; a broker may forget it a
	// year after the last end. The end of the run for good forgets the group soon. Members returns [ErrNoRecord] for
	// an unknown group. If the records exceed [MaxGroupResults] it returns an error that
	// wraps [ErrGroupTooLarge], before it has read them.
	Members(ctx context.Context, group Group) ([]*Record, error)
}

// Group names a group of runs, for the run that is queued once all of them have ended.
type Group struct {
	ID    string // empty: none
	Queue string // that keeps it: that of its first member
	Size  int    // the number of members

	Param   string // the run's parameter that gets the results; empty: none
	Partial bool   // the run gets the results of the members that succeeded; else it fails if one failed
}

// GroupKept is how long a group is known after the run that awaits it became a dead
// letter, so that it can be queued again.
const GroupKept = 7 * 24 * time.Hour

// Links tie a run to others. Runs may share them: replace the links of a copy, do not
// change them.
type Links struct {
	Group      string // the id of the group that the run is a member of; empty: none
	GroupQueue string // that keeps the group; empty: the run's own
	Member     int    // its place in the group, from 0
	Awaits     Group  // the group that the run is queued after

	// Members are those of Awaits, of a run that is on its way to the broker within another:
	// as a member, in Outcome.Next or in Then. They are queued in its stead, and it after
	// them. Groups nest at most MaxNesting deep.
	Members []*TaskRun

	Then []FollowUp // what its success queues, at most MaxThen; the runtime makes Outcome.Next of it

	// Returned is how many runs, one after the other, ended by returning a call, of the last
	// of which this run is a part. The runtime bounds it.
	Returned int
}

// GroupQueue returns the queue that keeps the group that r is a member of.
func (r *TaskRun) GroupQueue() string {
	if r.Links != nil && r.Links.GroupQueue != "" {
		return r.Links.GroupQueue
	}
	return r.Queue
}

// TakesPlace reports whether one of the runs that the success of r queues takes its place in
// its group. It returns an error if one is for another place or another group, or if two take the
// place.
func (r *TaskRun) TakesPlace(next []*TaskRun) (taken bool, err error) {
	if len(next) == 0 {
		return false, nil
	}
	links := r.Links.OrZero()
	for _, n := range next {
		l := n.Links.OrZero()
		switch {
		case l.Group == "":
			continue
		case l.Group != links.Group:
			return false, fmt.Errorf("run %.64q is to be member %d of group %s, and run %s is no member of it", n.ID, l.Member, l.Group, r.ID)
		case n.GroupQueue() != r.GroupQueue() || l.Member != links.Member || taken:
			return false, fmt.Errorf("run %.64q is to be member %d of group %s in queue %s; one run can take the place of member %d in queue %s, and no other",
				n.ID, l.Member, l.Group, n.GroupQueue(), links.Member, r.GroupQueue())
		}
		taken = true
	}
	return taken, nil
}

// OrZero returns the links, or the zero value for nil. It copies some 160 bytes, so that
// what each run passes asks for nil instead.
func (l *Links) OrZero() Links {
	if l == nil {
		return Links{}
	}
	return *l
}

// EnsureLinks returns the run's links. It makes them if there are none.
func (r *TaskRun) EnsureLinks() *Links {
	if r.Links == nil {
		r.Links = new(Links)
	}
	return r.Links
}

// FollowUp is a run that is queued after the success of another.
type FollowUp struct {
	Run   *TaskRun
	Param string // its parameter that gets the other's result; empty: none
	Keyed bool   // its rules depend on its parameters, so the runtime makes them anew with the result
}
