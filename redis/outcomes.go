package redis

import (
	"strings"

	"github.com/taskgen/taskgen/redis/internal/script"
)

// failure returns why an outcome is to be sent again, nil if it is not.
func (g *batchOutcomes) failure(o *outcome) error {
	if g.stays != nil {
		return g.stays
	}
	return g.failed[o.at.index]
}

// anyFailure returns why some of the outcomes are to be sent again, nil if none are.
func (g *batchOutcomes) anyFailure() error {
	if g.stays != nil {
		return g.stays
	}
	for _, err := range g.failed {
		return err
	}
	return nil
}

// sends reports whether an outcome may have put something into the outbox.
func (g *batchOutcomes) sends() bool {
	for _, o := range g.outcomes {
		if strings.ContainsAny(o.steps, string(script.StepSend)+string(script.StepEndMember)) {
			return true
		}
	}
	return false
}

func (g *batchOutcomes) isFenced(o *outcome) bool {
	if o.steps == "" {
		return g.lost
	}
	return g.fenced[o.at.index]
}

func (g *batchOutcomes) fail(index int, why error) {
	set(&g.failed, index, why)
}
