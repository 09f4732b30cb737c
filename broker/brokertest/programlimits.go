package brokertest

import (
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// programSession is a session of a consumer whose program has limits.
type programSession struct {
	broker.Session
	f      *fixture
	limits *broker.ProgramLimits
}

// openProgram opens a session of a program of this version with one limit.
func (f *fixture) openProgram(version int64, stem string, most int, per time.Duration) *programSession {
	f.Helper()
	limits := map[string]broker.Limit{stem: {Max: most, Per: per}}
	return &programSession{f.openSession(longHold), f, &broker.ProgramLimits{Version: version, Limits: limits}}
}

// takesAll takes all runs that can be taken now.
func (s *programSession) takesAll() (runs []*broker.TaskRun) {
	s.f.Helper()
	for {
		want := anyOf(100, "q")
		want.Limits = s.limits
		got, err := s.Take(s.f.within(quiet), want)
		if err != nil {
			return runs
		}
		runs = append(runs, got...)
	}
}

func limitOfProgram(f *fixture) {
	runs := f.queueNew("q", 8, limit("t/running", 4, 0), limit("t/rate", 100, time.Hour))
	strict := f.openProgram(1, "t/running", 1, 0)
	held := strict.takesAll()
	require.Equal(f, ids(runs[:1]), ids(held), "runs that brought a maximum of 4, with one of 1 now")
	f.finish(strict, succeeded(held...)...)
	held = strict.takesAll()
	require.Equal(f, ids(runs[1:2]), ids(held), "the next")
	f.close(strict.Session)

	loose := f.openProgram(2, "t/running", 6, 0)
	require.Len(f, loose.takesAll(), 6, "runs that brought a maximum of 4, with one of 6 now")
}

func limitOfProgramByValue(f *fixture) {
	a, b := "t/running/"+strings.Repeat("a", 22), "t/running/"+strings.Repeat("b", 22)
	ofA, ofB := f.queueNew("q", 3, limit(a, 3, 0)), f.queueNew("q", 3, limit(b, 3, 0))
	other := f.queueNew("q", 2, limit("t/running", 2, 0))
	s := f.openProgram(1, "t/running/*", 1, 0)
	require.ElementsMatch(f, ids([]*broker.TaskRun{ofA[0], ofB[0], other[0], other[1]}), ids(s.takesAll()))
}

func limitOfProgramRate(f *fixture) {
	runs := f.queueNew("q", 8, limit("t/rate", 5, time.Hour))
	s := f.openProgram(1, "t/rate", 2, 30*time.Minute)
	require.Equal(f, ids(runs[:2]), ids(s.takesAll()), "starts of a rate of 5, which is one of 2 now")
	f.close(s.Session)
	more := f.openProgram(2, "t/rate", 7, time.Hour)
	require.Len(f, more.takesAll(), 5, "starts of a rate of 7 after two")
}

func limitOfNewerProgram(f *fixture) {
	runs := f.queueNew("q", 8, limit("t/running", 4, 0))
	older, newer := f.openProgram(1, "t/running", 5, 0), f.openProgram(2, "t/running", 2, 0)
	held := newer.takesAll()
	require.Equal(f, ids(runs[:2]), ids(held))
	require.Empty(f, older.takesAll(), "the older one would take three more")
	more := f.openProgram(2, "t/running", 3, 0)
	require.Equal(f, ids(runs[2:3]), ids(more.takesAll()), "another of the newer version, with its own maximum")
	newest := f.openProgram(3, "t/running", 4, 0)
	require.Equal(f, ids(runs[3:4]), ids(newest.takesAll()), "a limit that was raised lets runs go at once")
	f.takesNothing(newest, "q")
	f.finish(newer, succeeded(held...)...)
	require.Len(f, older.takesAll(), 2, "after two of four have ended, by any consumer")
}
