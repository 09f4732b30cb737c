package brokertest

import (
	"context"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var riskChecks = []check{
	{"the server's risks are lines for people, also if few things may be asked", risksAreLines},
	{"asking for risks changes no queue", risksChangeNothing},
	{"an ended context asks for no risks", risksEnded},
}

func (f *fixture) risks(ctx context.Context, thorough bool) (broker.Risks, error) {
	return f.b.(broker.RiskReporter).Risks(ctx, thorough)
}

func risksAreLines(f *fixture) {
	for _, thorough := range []bool{false, true} {
		risks, err := f.risks(f.ctx(), thorough)
		require.NoError(f, err, "Risks, thorough: %v", thorough)
		for _, line := range append(risks.Found, risks.Summary) {
			require.Regexp(f, `^[^\n]+$`, line, "a line of Risks, thorough: %v", thorough)
		}
	}
}

func risksChangeNothing(f *fixture) {
	runs := f.queueNew("q", 3)
	f.each(8, func(i int) error {
		_, err := f.risks(f.ctx(), i%2 == 0)
		return err
	})
	require.Equal(f, ids(runs), ids(f.get(3, "q")), "runs taken after the server was asked for its risks")
}

func risksEnded(f *fixture) {
	for _, thorough := range []bool{false, true} {
		_, err := f.risks(f.ended(), thorough)
		require.ErrorIs(f, err, context.Canceled, "Risks with an ended context, thorough: %v", thorough)
	}
}
