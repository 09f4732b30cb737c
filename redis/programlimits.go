package redis

import (
	"maps"
	"slices"
	"strconv"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// programLimits are the limits of a consumer's program, and how take.lua gets them.
type programLimits struct {
	of   *broker.ProgramLimits
	text string
}

// useLimits has the takes that follow say what limits the program has.
func (s *session) useLimits(p *broker.ProgramLimits) {
	if s.limits.of == p {
		return
	}
	s.limits = programLimits{of: p, text: limitsText(p)}
}

func limitsText(p *broker.ProgramLimits) string {
	if p == nil {
		return ""
	}
	b := strconv.AppendInt(nil, max(p.Version, 0), 10)
	for _, stem := range slices.Sorted(maps.Keys(p.Limits)) {
		l := p.Limits[stem]
		if l.Max < 1 {
			continue
		}
		b = append(append(b, ' '), stem...)
		b = strconv.AppendInt(append(b, ' '), wire.ExactMax(l.Max), 10)
		b = strconv.AppendInt(append(b, ' '), wire.Micros(l.Per), 10)
	}
	return string(b)
}
