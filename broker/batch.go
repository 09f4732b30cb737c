package broker

import "fmt"

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

// size returns how many runs it is, members included, and how many bytes it carries, its
// follow-ups included.
func (r *TaskRun) size() (runs, size int) {
	runs, size = 1, len(r.Payload)
	for k, v := range r.Headers {
		size += len(k) + len(v)
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
