package broker

import (
	"errors"
	"fmt"
)

// CheckBatch returns an error that wraps [ErrBatchTooLarge] if the runs of one call are
// more than [MaxRuns], or carry more than [MaxBatch] together.
func CheckBatch(runs []*TaskRun) error {
	number, size := 0, 0
	for _, r := range runs {
		n, bytes := r.size()
		number, size = number+n, size+bytes
	}
	if number > MaxRuns {
		return fmt.Errorf("%d runs in one call, at most %d are allowed: %w", number, MaxRuns, ErrBatchTooLarge)
	}
	if size > MaxBatch {
		return fmt.Errorf("they carry %d bytes, at most %d are allowed: %w", size, MaxBatch, ErrBatchTooLarge)
	}
	return nil
}

// CheckGroup returns an error if [Groups] cannot queue next after members: [TaskRun.Validate]
// refuses next or a member, next does not await a group of these members in this order, or it
// has members with it. The error wraps [ErrBatchTooLarge] if [CheckBatch] does so for all of
// them.
func CheckGroup(next *TaskRun, members []*TaskRun) error {
	if next == nil {
		return errors.New("a group without a run that gathers it")
	}
	links := next.Links.OrZero()
	switch {
	case len(links.Members) > 0:
		return fmt.Errorf("run %.64q has the members of its group with it, which are given beside it", next.ID)
	case links.Awaits.ID == "" || links.Awaits.Size != len(members):
		return fmt.Errorf("run %.64q gathers the group %.64q of %d, and not of the %d there are", next.ID, links.Awaits.ID, links.Awaits.Size, len(members))
	}
	whole := *next
	links.Members, whole.Links = members, &links
	if err := whole.Validate(); err != nil {
		return fmt.Errorf("run %.64q: %w", next.ID, err)
	}
	return CheckBatch([]*TaskRun{&whole})
}

// size returns how many runs it is, members included, and how many bytes it carries, its
// history and follow-ups included.
func (r *TaskRun) size() (runs, size int) {
	runs, size = 1, len(r.Payload)
	for k, v := range r.Headers {
		size += len(k) + len(v)
	}
	if r.History != nil {
		for _, a := range r.History.Attempts {
			size += len(a.Host) + len(a.Message)
		}
	}
	if r.Links != nil {
		for _, c := range r.Links.Then {
			n, bytes := c.Run.size()
			runs, size = runs+n-1, size+bytes
		}
		for _, m := range r.Links.Members {
			n, bytes := m.size()
			runs, size = runs+n, size+bytes
		}
	}
	return runs, size
}
