package redis

import (
	"strings"

	"github.com/taskgen/taskgen/redis/internal/script"
)

// failure returns why an outcome is to be sent again, nil if it is not.
func (bo *batchOutcomes) failure(o *outcome) error {
	if bo.stays != nil {
		return bo.stays
	}
	return bo.failed[o.at.index]
}

// anyFailure returns why some of the outcomes are to be sent again, nil if none are.
func (bo *batchOutcomes) anyFailure() error {
	if bo.stays != nil {
		return bo.stays
	}
	for _, err := range bo.failed {
		return err
	}
	return nil
}

// sends reports whether an outcome may have put something into the outbox.
func (bo *batchOutcomes) sends() bool {
	for _, o := range bo.outcomes {
		if strings.ContainsAny(o.operations, string(script.OpSend)+string(script.OpEndMember)) {
			return true
		}
	}
	return false
}

func (bo *batchOutcomes) isFenced(o *outcome) bool {
	if o.operations == "" {
		return bo.lost
	}
	return bo.fenced[o.at.index]
}

func (bo *batchOutcomes) fail(index int, why error) {
	set(&bo.failed, index, why)
}
