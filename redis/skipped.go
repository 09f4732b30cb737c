package redis

import (
	"errors"
	"sync"

	"github.com/taskgen/taskgen/broker"
)

// skipped are the runs that were duplicates, and are not reported yet.
type skipped struct {
	mu   sync.Mutex
	list []broker.SkippedDuplicate
}

// take returns the runs that were skipped since the last call.
func (s *skipped) take() []broker.SkippedDuplicate {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// note notes that a run was skipped: to queue it returned this error.
func (s *skipped) note(run *broker.TaskRun, err error) {
	left := *run
	left.Payload, left.Links = nil, nil
	by := inTheWay(run, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) < maxSkipped {
		s.list = append(s.list, broker.SkippedDuplicate{Run: &left, LiveID: by})
	}
}

// inTheWay returns the id of the live run for which a run was skipped.
func inTheWay(run *broker.TaskRun, err error) string {
	if conflict, ok := errors.AsType[*broker.DuplicateError](err); ok && len(conflict.Runs) > 0 {
		return conflict.Runs[0].ID
	}
	return run.ID
}
