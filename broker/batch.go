package broker

import "fmt"

// CheckBatch returns an error that wraps [ErrBatchTooLarge] if the runs of one call are
// more than [MaxRuns], or carry more than [MaxBatch] together.
func CheckBatch(runs []*TaskRun) error {
	if len(runs) > MaxRuns {
		return fmt.Errorf("%d runs in one call, at most %d are allowed: %w", len(runs), MaxRuns, ErrBatchTooLarge)
	}
	size := 0
	for _, r := range runs {
		size += r.size()
	}
	if size > MaxBatch {
		return fmt.Errorf("they carry %d bytes, at most %d are allowed: %w", size, MaxBatch, ErrBatchTooLarge)
	}
	return nil
}

// size returns how many bytes the run carries, its follow-ups included.
func (r *TaskRun) size() int {
	size := len(r.Payload)
	for k, v := range r.Headers {
		size += len(k) + len(v)
	}
	if r.Links != nil {
		for _, c := range r.Links.Then {
			size += c.Run.size()
		}
	}
	return size
}
