package brokertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var searchChecks = []check{
	{"the pages of a search have each run of a state once, in the order of Runs", searchPages},
	{"a search looks at no more than Look and finds what matches", searchMatches},
	{"a search is bounded though it asks for more", searchBounds},
	{"the pages of a search have each dead letter once, the newest first", searchDeadPages},
	{"a page cannot begin after what is not of its search", searchCursors},
	{"a search of a queue never used finds nothing, and one for no state is refused", searchNothing},
	{"each run that waits and stays is on one page whatever happens to others", searchWaitingRace},
	{"each run that is held and stays is on one page whatever happens to others", searchRunningRace},
	{"each record and each dead letter is on a page while others come", searchEndedRace},
}

func (f *fixture) searcher() broker.Searcher { return f.b.(broker.Searcher) }

// mostPages is how many pages a search may have before it is taken for endless.
const mostPages = 10_000

// everyPage calls fn for each page of a search, with the After of the page before, until fn
// returns an empty one.
func everyPage(fn func(after string) (string, error)) error {
	after := ""
	for range mostPages {
		next, err := fn(after)
		if err != nil || next == "" {
			return err
		}
		after = next
	}
	return fmt.Errorf("the search has no end after %d pages", mostPages)
}

// allRuns returns the runs of all pages of a search, and how many entries it looked at.
func (f *fixture) allRuns(queue string, state broker.State, s broker.RunSearch) (all []*broker.RunInfo, looked int) {
	f.Helper()
	require.NoError(f, everyPage(func(after string) (string, error) {
		s.After = after
		page, err := f.searcher().FindRuns(f.ctx(), queue, state, s)
		if err != nil {
			return "", err
		}
		if s.Max > 0 {
			require.LessOrEqual(f, len(page.Runs), s.Max, "runs of one page")
		}
		if s.Look > 0 {
			require.LessOrEqual(f, page.Looked, s.Look, "entries that one page looked at")
		}
		require.LessOrEqual(f, len(page.Runs), page.Looked, "runs found, and looked at")
		all, looked = append(all, page.Runs...), looked+page.Looked
		return page.After, nil
	}), "FindRuns that are %s", state)
	return all, looked
}

// allDead returns the dead letters of all pages of a search.
func (f *fixture) allDead(queue string, s broker.DeadSearch) (all []*broker.DeadLetter) {
	f.Helper()
	require.NoError(f, everyPage(func(after string) (string, error) {
		s.After = after
		page, err := f.searcher().FindDead(f.ctx(), queue, s)
		if err != nil {
			return "", err
		}
		if s.Max > 0 {
			require.LessOrEqual(f, len(page.Letters), s.Max, "dead letters of one page")
		}
		if s.Look > 0 {
			require.LessOrEqual(f, page.Looked, s.Look, "entries that one page looked at")
		}
		all = append(all, page.Letters...)
		return page.After, nil
	}), "FindDead")
	return all
}

// requireTotal checks how many entries a page says there are, if it knows.
func (f *fixture) requireTotal(want, got int64, what string) {
	f.Helper()
	if got != -1 {
		require.Equal(f, want, got, "how many there are, %s", what)
	}
}

var liveStates = []broker.State{broker.StateQueued, broker.StateDelayed, broker.StateRunning}

// populate has n runs in each state but the cancelled one, with records, in queue q.
func (f *fixture) populate(n int) {
	f.Helper()
	s := f.openSession(longHold)
	f.queueNew("q", 3*n, keep(time.Hour))
	held := f.take(s, 3*n, "q")
	for i, r := range held[:n] {
		f.finish(s, returned(r, "r"), broker.Outcome{Run: held[n+i], Verdict: broker.Dead, Failure: failure(fmt.Sprint("bad ", i%5))})
	}
	for i := range n {
		odd := func(r *broker.TaskRun) {
			if i%2 == 1 {
				r.Task, r.Kind, r.Priority = "odd", broker.CPU, broker.High
			}
		}
		f.queue(f.newRun("q", odd, keep(time.Hour)))
		f.queue(f.newRun("q", odd, delay(time.Hour+time.Duration(i%3)*time.Minute)))
	}
}

func searchPages(f *fixture) {
	const n = 25
	f.populate(n)
	for _, state := range append(slices.Clone(liveStates), broker.StateSucceeded, broker.StateFailed) {
		for _, most := range []int{1, 7, n, n + 1, 0} {
			want := f.list(state, aLot)
			got, looked := f.allRuns("q", state, broker.RunSearch{Max: most})
			require.GreaterOrEqual(f, looked, n, "entries looked at")
			require.Equal(f, infoIDs(want), infoIDs(got), "runs that are %s, in pages of %d", state, most)
			if state.Ended() {
				continue
			}
			for i := range got {
				f.requireSame(want[i].Run, got[i].Run, "a run that was found")
				require.Equal(f, want[i].Session, got[i].Session, "session of a run that was found")
				require.WithinDuration(f, want[i].Due, got[i].Due, slack, "due time of a run that was found")
			}
		}
		page, err := f.searcher().FindRuns(f.ctx(), "q", state, broker.RunSearch{Max: 1})
		require.NoError(f, err)
		f.requireTotal(n, page.Total, string(state))
	}
}

func searchMatches(f *fixture) {
	const n = 20
	f.populate(n)
	odd := func(i *broker.RunInfo) bool { return i.Run.Task == "odd" }
	for _, state := range liveStates[:2] {
		got, looked := f.allRuns("q", state, broker.RunSearch{Match: odd, Look: 3})
		require.Len(f, got, n/2, "runs that are %s and match", state)
		require.Equal(f, n, looked, "entries looked at for %s", state)
		for _, info := range got {
			require.Equal(f, state, info.State, "state of a run that was found")
		}
		got, _ = f.allRuns("q", state, broker.RunSearch{Match: odd, Max: 3, Look: 7})
		require.Len(f, got, n/2, "runs that are %s and match, in pages of 3", state)
		none, _ := f.allRuns("q", state, broker.RunSearch{Match: func(*broker.RunInfo) bool { return false }})
		require.Empty(f, none, "runs when none matches")
	}
	ended, _ := f.allRuns("q", broker.StateFailed, broker.RunSearch{Look: 100, Match: func(i *broker.RunInfo) bool {
		return i.Failure != nil && i.Failure.Message == "bad 3" && i.Run.Queue == "q" && i.Run.Task == theTask
	}})
	require.Len(f, ended, n/5, "runs that failed so")
	letters := f.allDead("q", broker.DeadSearch{Look: 3, Match: func(l *broker.DeadLetter) bool {
		return l.Failure.Message == "bad 3" && l.Run.Task == theTask && l.At.Before(time.Now().Add(time.Minute))
	}})
	require.Len(f, letters, n/5, "dead letters that match")
}

func searchBounds(f *fixture) {
	const n = broker.MaxFound + 50
	f.queueNew("q", n)
	page, err := f.searcher().FindRuns(f.ctx(), "q", broker.StateQueued, broker.RunSearch{Max: 10 * n, Look: 1 << 40})
	require.NoError(f, err, "FindRuns that asks for more than is allowed")
	require.LessOrEqual(f, len(page.Runs), broker.MaxFound, "runs of one page")
	require.NotEmpty(f, page.After, "After of a page that has not all")
	for _, most := range []int{0, 10 * n, -1} {
		got, _ := f.allRuns("q", broker.StateQueued, broker.RunSearch{Max: most, Look: most})
		require.Len(f, got, n, "runs of all pages with Max and Look %d", most)
	}
}

func searchDeadPages(f *fixture) {
	const n = 12
	f.die(f.newRuns("q", n)...)
	all := f.deadLetters("q", aLot)
	require.Len(f, all, n)
	for _, most := range []int{1, 5, n, 0} {
		got := f.allDead("q", broker.DeadSearch{Max: most})
		require.Equal(f, letterIDs(all), letterIDs(got), "dead letters, in pages of %d", most)
		f.requireSame(all[0].Run, got[0].Run, "run of a dead letter that was found")
		require.Equal(f, all[0].Failure, got[0].Failure, "failure of a dead letter that was found")
	}
	page, err := f.searcher().FindDead(f.ctx(), "q", broker.DeadSearch{Max: 1})
	require.NoError(f, err)
	f.requireTotal(n, page.Total, "dead letters")
	scribble(page.Letters[0].Run) // it is the caller's alone
	f.requireSame(all[0].Run, f.deadLetters("q", 1)[0].Run, "a letter whose reader changed its copy")

	page, err = f.searcher().FindDead(f.ctx(), "q", broker.DeadSearch{Max: 4})
	require.NoError(f, err)
	f.die(f.newRuns("q", 2)...) // they come before what was read
	f.deleteDead(1, page.Letters[3].ID)
	page, err = f.searcher().FindDead(f.ctx(), "q", broker.DeadSearch{Max: aLot, After: page.After})
	require.NoError(f, err)
	require.Equal(f, letterIDs(all[4:]), letterIDs(page.Letters), "the rest, after letters came and went")
}

// foreignCursors returns texts that no page of a search for queued runs of q can begin after.
func (f *fixture) foreignCursors() map[string]string {
	f.Helper()
	after := map[string]string{
		"a word": "garbage", "a number": "1", "a space": " ", "zeros": "\x00\x00\x00\x00", "colons": ":::::", "a long text": strings.Repeat("x", 10_000),
		"not UTF-8": "\xff\xfe", "a negative number": "-1",
	}
	for _, queue := range []string{"q", "other"} {
		for _, state := range append(slices.Clone(liveStates), broker.StateFailed) {
			page, err := f.searcher().FindRuns(f.ctx(), queue, state, broker.RunSearch{Max: 1})
			require.NoError(f, err, "FindRuns that are %s", state)
			if state != broker.StateQueued || queue != "q" {
				after[fmt.Sprintf("that of %s runs of queue %s", state, queue)] = page.After
			}
		}
	}
	dead, err := f.searcher().FindDead(f.ctx(), "q", broker.DeadSearch{Max: 1})
	require.NoError(f, err)
	after["that of dead letters"] = dead.After
	maps.DeleteFunc(after, func(_, text string) bool { return text == "" }) // the only one there is
	return after
}

func searchCursors(f *fixture) {
	f.populate(3)
	f.queueNew("other", 3)
	s := f.searcher()
	page, err := s.FindRuns(f.ctx(), "q", broker.StateQueued, broker.RunSearch{Max: 1})
	require.NoError(f, err)
	_, err = s.FindDead(f.ctx(), "q", broker.DeadSearch{After: page.After})
	require.ErrorIs(f, err, broker.ErrAfter, "FindDead after a page of runs")
	for what, after := range f.foreignCursors() {
		_, err := s.FindRuns(f.ctx(), "q", broker.StateQueued, broker.RunSearch{After: after})
		require.ErrorIs(f, err, broker.ErrAfter, "FindRuns after %s", what)
		require.NotErrorIs(f, err, broker.ErrUnavailable, "FindRuns after %s", what)
		if what == "that of dead letters" {
			continue
		}
		_, err = s.FindDead(f.ctx(), "q", broker.DeadSearch{After: after})
		require.ErrorIs(f, err, broker.ErrAfter, "FindDead after %s", what)
	}
}

func searchNothing(f *fixture) {
	for _, state := range append(slices.Clone(liveStates), broker.StateSucceeded, broker.StateFailed, broker.StateCancelled) {
		page, err := f.searcher().FindRuns(f.ctx(), "unused", state, broker.RunSearch{})
		require.NoError(f, err, "FindRuns of a queue never used")
		require.Empty(f, page.Runs)
		require.Empty(f, page.After)
		f.requireTotal(0, page.Total, "in a queue never used")
	}
	page, err := f.searcher().FindDead(f.ctx(), "unused", broker.DeadSearch{})
	require.NoError(f, err, "FindDead of a queue never used")
	require.Empty(f, page.Letters)
	require.Empty(f, page.After)
	_, err = f.searcher().FindRuns(f.ctx(), "q", "odd", broker.RunSearch{})
	require.Error(f, err, "FindRuns in a state there is not")
	_, err = f.searcher().FindRuns(f.ended(), "q", broker.StateQueued, broker.RunSearch{})
	require.ErrorIs(f, err, context.Canceled, "FindRuns with an ended context")
	_, err = f.searcher().FindDead(f.ended(), "q", broker.DeadSearch{})
	require.ErrorIs(f, err, context.Canceled, "FindDead with an ended context")
}

// during calls fn again and again, in another goroutine, while the test calls work. It pauses in
// between, or a search would never get to the end.
func (f *fixture) during(fn func() error, work func()) {
	f.Helper()
	stop := make(chan struct{})
	done := f.start(1, func(int) error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if err := fn(); err != nil {
				return err
			}
			f.pass(time.Millisecond)
		}
	})
	defer func() { require.NoError(f, done(), "what goes on meanwhile") }()
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }) }
	defer end()
	work()
	end()
}

// requireEach checks that runs were found once each, or several times if that is allowed.
func (f *fixture) requireEach(found []string, want []*broker.TaskRun, once bool, what string) {
	f.Helper()
	n := map[string]int{}
	for _, id := range found {
		n[id]++
	}
	for _, r := range want {
		require.NotZero(f, n[r.ID], "%s: pages that have run %s, one of %d", what, r.ID, len(want))
		if once {
			require.Equal(f, 1, n[r.ID], "%s: pages that have run %s, one of %d", what, r.ID, len(want))
		}
	}
}

// searchWaitingRace has others taken from before, cancelled among, and queued behind those that
// stay.
func searchWaitingRace(f *fixture) {
	const stay, rounds = 400, 10
	s := f.openSession(longHold)
	for _, d := range []time.Duration{0, time.Hour} {
		state := broker.StateQueued
		if d > 0 {
			state = broker.StateDelayed
		}
		var queued, among []*broker.TaskRun
		if d == 0 {
			f.queueNew("q", 150) // to be taken
		}
		for i := range stay {
			r := f.newRun("q", delay(d+time.Duration(i)*time.Duration(min(d, time.Second))))
			queued = append(queued, r)
			if i%10 == 5 {
				gone := f.newRun("q", delay(r.Delay), keep(time.Hour))
				among, queued = append(among, gone), append(queued, gone)
			}
		}
		f.queue(queued...)
		stays := slices.DeleteFunc(queued, func(r *broker.TaskRun) bool { return r.Keep > 0 })
		taken := 0
		meanwhile := func() error {
			if err := f.b.QueueTasks(f.ctx(), f.newRun("q", delay(d)), f.newRun("q", delay(2*d), priority(broker.Low))); err != nil {
				return err
			}
			if len(among) > 0 {
				if err := f.controls().Cancel(f.ctx(), "q", among[0].ID, cancelled); err != nil {
					return err
				}
				among = among[1:]
			}
			if d > 0 || taken >= 100 {
				return nil
			}
			taken++
			runs, err := s.Take(f.ctx(), broker.Want{Queues: []string{"q"}, IO: 1})
			if err == nil {
				_, err = s.Finish(f.ctx(), succeeded(runs...)...)
			}
			return err
		}
		f.during(meanwhile, func() {
			for range rounds {
				found, _ := f.allRuns("q", state, broker.RunSearch{Max: 20})
				f.requireEach(infoIDs(found), stays, true, string(state))
			}
		})
	}
}

func searchRunningRace(f *fixture) {
	const stay = 100
	f.queueNew("q", stay)
	var stays []*broker.TaskRun
	for range 4 { // the sessions' ids sort before and behind that of the one that goes on
		s := f.openSession(longHold)
		for range 5 {
			stays = append(stays, f.take(s, stay/20, "q")...)
		}
	}
	s := f.openSession(longHold)
	meanwhile := func() error {
		if err := f.b.QueueTasks(f.ctx(), f.newRuns("q", 2)...); err != nil {
			return err
		}
		runs, err := s.Take(f.ctx(), anyOf(2, "q"))
		if err == nil {
			_, err = s.Finish(f.ctx(), succeeded(runs...)...)
		}
		return err
	}
	f.during(meanwhile, func() {
		for range 10 {
			found, _ := f.allRuns("q", broker.StateRunning, broker.RunSearch{Max: 7})
			f.requireEach(infoIDs(found), stays, true, "running")
		}
	})
}

func searchEndedRace(f *fixture) {
	const stay = 60
	s, runs := f.hold(2*stay, keep(time.Hour))
	for i, r := range runs[:stay] {
		f.finish(s, returned(r, "r"), broker.Outcome{Run: runs[stay+i], Verdict: broker.Dead, Failure: failure("stays")})
	}
	meanwhile := func() error {
		if err := f.b.QueueTasks(f.ctx(), f.newRuns("q", 2, keep(time.Hour))...); err != nil {
			return err
		}
		more, err := s.Take(f.ctx(), anyOf(2, "q"))
		if err == nil {
			outcomes := succeeded(more...)
			outcomes[0] = broker.Outcome{Run: more[0], Verdict: broker.Dead, Failure: failure("more")}
			_, err = s.Finish(f.ctx(), outcomes...)
		}
		return err
	}
	f.during(meanwhile, func() {
		for range 5 {
			found, _ := f.allRuns("q", broker.StateSucceeded, broker.RunSearch{Max: 11})
			f.requireEach(infoIDs(found), runs[:stay], false, "succeeded")
			letters := f.allDead("q", broker.DeadSearch{Max: 11, Match: func(l *broker.DeadLetter) bool { return l.Failure.Message == "stays" }})
			f.requireEach(letterIDs(letters), runs[stay:], true, "dead letters")
		}
	})
}
