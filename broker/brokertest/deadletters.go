package brokertest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var deadLetterChecks = []check{
	{"a dead run leaves a letter with its run and failure", deadLetter},
	{"dead letters come newest first, up to max, by queue", deadLetterOrder},
	{"only dead runs leave a letter", onlyDead},
}

func (f *fixture) deadLetters(queue string, most int) []*broker.DeadLetter {
	f.Helper()
	letters, err := f.records().DeadLetters(f.ctx(), queue, most)
	require.NoError(f, err, "DeadLetters of %s", queue)
	return letters
}

func deadLetter(f *fixture) {
	given := fullRuns(f, "q")[0]
	f.queue(given)
	s := f.openSession(longHold)
	run := f.takeOne(s, "q")
	run.Attempt = 9
	f.finish(s, died(run))
	letters := f.deadLetters("q", aLot)
	require.Len(f, letters, 1, "dead letters")
	require.NotNil(f, letters[0].Run, "run of the dead letter")
	given.Attempt = 9
	f.requireSame(given, letters[0].Run, "the run of a dead letter")
	require.Equal(f, *failure("bad"), letters[0].Failure, "failure of the dead letter")
	require.WithinDuration(f, time.Now(), letters[0].At, time.Minute, "instant of the dead letter")
	f.requireRecord(given, broker.Record{State: broker.StateFailed, Attempt: 9, Failure: failure("bad")})

	scribble(letters[0].Run) // it is the caller's alone
	f.requireSame(given, f.deadLetters("q", aLot)[0].Run, "the run of a dead letter whose first reader changed its copy")
}

func deadLetterOrder(f *fixture) {
	s := f.openSession(longHold)
	for i := range 5 {
		f.queueNew("q", 1)
		f.finish(s, broker.Outcome{Run: f.takeOne(s, "q"), Verdict: broker.Dead, Failure: failure(fmt.Sprint(i))})
	}
	messages := func(letters []*broker.DeadLetter) (list []string) {
		for _, l := range letters {
			list = append(list, l.Failure.Message)
		}
		return list
	}
	require.Equal(f, []string{"4", "3", "2", "1", "0"}, messages(f.deadLetters("q", aLot)), "dead letters")
	require.Equal(f, []string{"4", "3"}, messages(f.deadLetters("q", 2)), "at most 2 dead letters")
	require.Empty(f, f.deadLetters("other", aLot), "dead letters of another queue")
}

func onlyDead(f *fixture) {
	s, runs := f.hold(3, keep(time.Hour))
	f.finish(s,
		broker.Outcome{Run: runs[0], Verdict: broker.Succeeded},
		dropped(runs[1]),
		retried(runs[2], time.Hour))
	require.Empty(f, f.deadLetters("q", aLot), "dead letters of runs that are not dead")
	f.requireRecord(runs[1], broker.Record{State: broker.StateFailed, Failure: failure("expired")})
}
