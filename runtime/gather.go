package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// gatherError is a broker that could not be asked for results: the run never
// started, and the reason is not in it.
type gatherError struct{ err error }

func (e *gatherError) Error() string { return e.err.Error() }
func (e *gatherError) Unwrap() error { return e.err }

// gather returns the payload of a run with the results of the group that it
// gathers, in its first parameter.
func (c *Consumer) gather(ctx context.Context, run *broker.TaskRun) ([]byte, error) {
	groups, ok := c.broker.(broker.Groups)
	if !ok {
		return nil, Permanent(errors.New("gather results: this broker has no broker.Groups"))
	}
	group := run.Links.Awaits
	members, err := groups.Members(ctx, group)
	if errors.Is(err, ErrNoRecord) || errors.Is(err, broker.ErrGroupTooLarge) {
		return nil, Permanent(fmt.Errorf("gather results of group %s: %w", group.ID, err))
	}
	if err != nil {
		return nil, &gatherError{fmt.Errorf("gather results of group %s: %w", group.ID, err)}
	}
	var results []byte
	var failed *broker.Record
	succeeded := 0
	for i, m := range members {
		switch {
		case m == nil:
			return nil, Permanent(fmt.Errorf("gather results of group %s: member %d has not ended", group.ID, i))
		case m.State == broker.StateSucceeded:
			succeeded++
			results = append(results, m.Result...)
		case failed == nil:
			failed = m
		}
	}
	if failed != nil && !group.Partial {
		return nil, Permanent(fmt.Errorf("%d of %d members of the group failed, the first: %w", len(members)-succeeded, len(members), runError(failed)))
	}
	if group.Param == "" {
		return run.Payload, nil
	}
	return withParam(run.Payload, group.Param, append(codec.AppendArrayLen(nil, succeeded), results...))
}
