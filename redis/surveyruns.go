package redis

import (
	"context"
	"fmt"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// giveRuns gives the caller of a survey the runs of one queue.
type giveRuns = func(maintenance.Part[[]*broker.RunInfo])

// runsSurvey is a survey of runs.
type runsSurvey struct {
	b     *Broker
	state broker.State
	max   int
	want  func(*broker.RunInfo) bool
}

// SurveyRuns is [Broker.Runs] for many queues. On a server it needs two commands for each 50 of
// them, and one more for each 2,000 runs or mebibyte; on a cluster these are for each queue. With
// want, a queue of more than 200 runs in the state is left Apart. Of runs that have ended it looks at
// the latest 200 of a queue, and of later queues at none once it has found enough.
func (b *Broker) SurveyRuns(ctx context.Context, queues []string, state broker.State, max int, want func(*broker.RunInfo) bool, part func(maintenance.Part[[]*broker.RunInfo])) error {
	r := &runsSurvey{b: b, state: state, max: max, want: want}
	switch state {
	case broker.StateQueued, broker.StateDelayed, broker.StateRunning:
	case broker.StateSucceeded, broker.StateFailed, broker.StateCancelled:
		if want == nil {
			r.want = func(*broker.RunInfo) bool { return true }
		}
		return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give giveRuns) error {
			return r.ended(ctx, page, give)
		})
	default:
		return fmt.Errorf("list runs: unknown state %.32q", string(state))
	}
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give giveRuns) error {
		if err := b.describe(ctx, page, 0); err != nil {
			return err
		}
		var some []*surveyed
		for _, s := range withoutApart(page, give) {
			switch n := r.count(s); {
			case n == 0:
				give(maintenance.Part[[]*broker.RunInfo]{Queue: s.at, All: true})
			case want != nil && n > surveyMost:
				give(maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Apart: true})
			default:
				some = append(some, s)
			}
		}
		return r.read(ctx, some, give)
	})
}

// count returns how many runs a queue has in the state.
func (r *runsSurvey) count(s *surveyed) int64 {
	switch r.state {
	case broker.StateRunning:
		return s.info.Running
	case broker.StateDelayed:
		return s.info.Later
	}
	return s.info.Queued()
}

// most is how many runs of a queue are read: one more than are wanted says that there are more.
func (r *runsSurvey) most() int {
	if r.want != nil {
		return surveyMost
	}
	return r.max + 1
}

// placesIn returns the places of a queue that have the first runs in the state, as firstentries.lua
// reads them.
func (r *runsSurvey) placesIn(s *surveyed) (keys []string, kinds []string) {
	switch r.state {
	case broker.StateRunning:
		return []string{s.InFlight}, []string{"inflight"}
	case broker.StateDelayed:
		return []string{s.Delayed}, []string{"later"}
	}
	left := int64(r.most())
	add := func(key, kind string, n int64) {
		if n > 0 && left > 0 {
			keys, kinds = append(keys, key), append(kinds, kind)
			left -= n
		}
	}
	for _, n := range readyOrder {
		add(s.Ready[n], "list", s.info.Ready[n])
	}
	add(s.Delayed, "due", s.info.Due)
	add(s.Backlogs, "all", s.info.Held)
	add(s.Deferred, "all", s.info.Deferred)
	return keys, kinds
}

// read gives the runs of queues.
func (r *runsSurvey) read(ctx context.Context, page []*surveyed, give giveRuns) error {
	return r.b.together(ctx, page, infoQueues, func(few []*surveyed) error {
		found := map[*surveyed]*listing{}
		for _, s := range few {
			found[s] = &listing{b: r.b, q: s.queue, state: r.state, max: maxListed}
		}
		err := r.b.firstEntries(ctx, few, r.most(), r.placesIn, func(s *surveyed, key string, entries []script.FirstEntry) {
			for _, e := range entries {
				r.add(found[s], key, e)
			}
		})
		if err != nil {
			return err
		}
		var infos []*broker.RunInfo
		parts := map[*surveyed]maintenance.Part[[]*broker.RunInfo]{}
		few = withoutApart(few, give)
		for _, s := range few {
			parts[s] = r.part(s, found[s])
			infos = append(infos, parts[s].Found...)
		}
		if err := r.b.readRecords(ctx, infos); err != nil {
			return err
		}
		for _, s := range few {
			give(parts[s])
		}
		return nil
	})
}

// add adds a run that firstentries.lua has read.
func (r *runsSurvey) add(l *listing, key string, e script.FirstEntry) {
	info := l.add(l.q.StoredRunOf(key, e.Entry))
	switch {
	case info == nil:
	case r.state == broker.StateDelayed:
		info.Due = wire.ParseScore(e.Of)
	case r.state == broker.StateRunning:
		info.Session, _, _ = strings.Cut(e.Of, ":")
		info.Run.Deliveries++
	}
}

// part is what a survey gives of a queue.
func (r *runsSurvey) part(s *surveyed, l *listing) maintenance.Part[[]*broker.RunInfo] {
	var wanted []*broker.RunInfo
	for _, info := range l.found {
		if r.want == nil || r.want(info) {
			wanted = append(wanted, info)
		}
	}
	all := len(wanted) <= r.max && r.count(s) <= int64(r.most())
	return maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Found: wanted[:min(len(wanted), r.max)], All: all}
}

// firstEntries reads the first entries of places of queues, and calls take for each. It leaves a
// queue apart of which a place cannot be read.
func (b *Broker) firstEntries(ctx context.Context, few []*surveyed, most int, placesIn func(*surveyed) (keys, kinds []string), take func(s *surveyed, key string, entries []script.FirstEntry)) error {
	var keys, kinds []string
	var of []*surveyed
	for _, s := range few {
		places, how := placesIn(s)
		keys, kinds = append(keys, places...), append(kinds, how...)
		for range places {
			of = append(of, s)
		}
	}
	for len(keys) > 0 {
		args := (&script.FirstEntriesArgs{Most: most, Total: surveyPage, Bytes: searchBytes}).Append(nil)
		for _, kind := range kinds {
			args = append(args, kind)
		}
		v, err := b.repeat(ctx, b.scripts.FirstEntries, b.clients.Work, keys, args...)
		if err != nil {
			return err
		}
		places, err := script.ParseFirstEntries(v, len(keys))
		if err == nil && len(places) == 0 {
			err = fmt.Errorf("firstentries.lua has read none of %d places", len(keys))
		}
		if err != nil {
			return err
		}
		for i, place := range places {
			of[i].apart = of[i].apart || place.Err != nil
			take(of[i], keys[i], place.Entries)
		}
		keys, kinds, of = keys[len(places):], kinds[len(places):], of[len(places):]
	}
	return nil
}
