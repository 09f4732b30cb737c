package redis

import (
	"cmp"
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// searchPage and searchBytes bound what one command of a search reads.
	searchPage  = 1000
	searchBytes = 1 << 20
	// foundBytes is how large the entries of one page may be together.
	foundBytes = 32 << 20
)

// FindRuns returns a page of the queue's runs in a state. One command reads 1,000 runs, or a
// mebibyte. A page ends early once its runs are larger than 32 MiB.
//
// Of queued and delayed runs a page can have none and an After, while it is still looking for the
// place where the page before ended: others take thousands of runs there.
//
// Of runs that have ended it finds the latest, those of some 10,000 calls that recorded ends: Looked
// counts the records in the state, and Total is -1. A run whose id has ended twice can be on two
// pages.
//
// FindRuns skips a key of a wrong type, and returns an error that names the key beside the
// page.
func (b *Broker) FindRuns(ctx context.Context, queueName string, state broker.State, s broker.RunSearch) (*broker.RunPage, error) {
	page := new(broker.RunPage)
	sr, err := b.newSearch(ctx, queueName, state, s, func(e *foundRun) { page.Runs = append(page.Runs, e.info) })
	if err != nil {
		return nil, fmt.Errorf("find runs: %w", err)
	}
	err = sr.run(ctx)
	if err == nil && !state.Ended() {
		err = b.readRecords(ctx, page.Runs)
	}
	page.Looked, page.Total, page.After = sr.looked, sr.total, sr.after()
	if err = cmp.Or(err, sr.odd); err != nil {
		if sr.odd == nil {
			page = nil
		}
		return page, b.fail(ctx, "find "+string(state)+" runs of queue "+sr.q.Name, b.blameIn(ctx, err, sr.q))
	}
	return page, nil
}

// foundRun is a run that a search has found, and where.
type foundRun struct {
	info   *broker.RunInfo
	key    string // of the list or sorted set, or of the batch
	entry  string // as it is there
	name   string // of the batch
	index  int64  // in the batch, or in the list
	behind int64  // entries in the list
}

// pageSearch is one page of a search that is being made.
type pageSearch struct {
	b        *Broker
	q        *queue
	of       string // which search it is, for cursors
	places   []searchPlace
	at       *cursor
	max      int
	look     int
	looked   int
	found    int
	bytes    int // of what was found
	total    int64
	over     bool
	sifts    bool // not all match
	removes  bool // what is found is removed, so that it is no anchor
	names    broker.Decoder
	state    broker.State
	match    func(*broker.RunInfo) bool
	keep     func(*foundRun)
	odd      error
	inFlight []string // names of batches, in their order
	reads    int      // of a list of runs that have ended
	seen     map[string]bool
}

// searchPlace is where a search looks.
type searchPlace struct {
	key  string
	read func(s *pageSearch, ctx context.Context, p *searchPlace) error // until the page is full, or the place is over
	set  string                                                         // which of the runs in a sorted set
}

// newSearch begins a page of a search for runs.
func (b *Broker) newSearch(ctx context.Context, queueName string, state broker.State, r broker.RunSearch, keep func(*foundRun)) (*pageSearch, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, err
	}
	s := &pageSearch{b: b, q: q, of: string(state) + " " + q.Name, state: state, match: r.Match, sifts: r.Match != nil, keep: keep, total: -1}
	s.bound(r.Max, r.Look)
	if s.places, err = placesOf(q, state); err != nil {
		return nil, err
	}
	if s.at, err = parseCursor(s.of, r.After, len(s.places)); err != nil || state.Ended() {
		return s, err
	}
	info, err := b.unstagedInfo(ctx, q, 0)
	if err != nil {
		return nil, b.fail(ctx, "count runs of queue "+q.Name, err)
	}
	switch state {
	case broker.StateQueued:
		s.total = info.Queued()
	case broker.StateDelayed:
		s.total = info.Later
	case broker.StateRunning:
		s.total = info.Running
	}
	return s, nil
}

// bound sets the bounds of the page.
func (s *pageSearch) bound(most, look int) {
	bounded := func(n, most int) int {
		if n <= 0 || n > most {
			return most
		}
		return n
	}
	s.max, s.look = bounded(most, broker.MaxFound), bounded(look, broker.MaxLook)
}

// placesOf returns where the runs in a state are, in the order of Controls.Runs.
func placesOf(q *queue, state broker.State) (places []searchPlace, err error) {
	switch state {
	case broker.StateQueued:
		for _, n := range readyOrder {
			places = append(places, searchPlace{key: q.Ready[n], read: (*pageSearch).list})
		}
		return append(places, searchPlace{q.Delayed, (*pageSearch).sortedSet, "due"}, searchPlace{q.Backlogs, (*pageSearch).sortedSet, "lex"},
			searchPlace{q.Deferred, (*pageSearch).sortedSet, "all"}), nil
	case broker.StateDelayed:
		return []searchPlace{{q.Delayed, (*pageSearch).sortedSet, "later"}}, nil
	case broker.StateRunning:
		return []searchPlace{{key: q.InFlight, read: (*pageSearch).batches}}, nil
	case broker.StateSucceeded:
		return []searchPlace{{key: q.EndedSucceeded, read: (*pageSearch).ended}}, nil
	case broker.StateFailed, broker.StateCancelled:
		return []searchPlace{{key: q.EndedFailed, read: (*pageSearch).ended}}, nil
	}
	return nil, fmt.Errorf("unknown state %.32q", string(state))
}

// run makes the page.
func (s *pageSearch) run(ctx context.Context) error {
	for !s.over && !s.full() {
		p := &s.places[s.at.place]
		before := s.looked
		err := p.read(s, ctx, p)
		if conn.IsWrongType(err) {
			s.odd = cmp.Or(s.odd, s.b.blame(ctx, err, p.key))
			s.pass()
		} else if err != nil {
			return err
		} else if err := conn.ContextErr(ctx); err != nil {
			return err
		} else if s.reads >= searchReads || s.looked == before && s.at.seeking {
			break
		}
	}
	return nil
}

// pass goes on to the next place.
func (s *pageSearch) pass() {
	if s.over = s.at.place == len(s.places)-1; !s.over {
		s.at.next()
	}
}

func (s *pageSearch) full() bool {
	return s.found >= s.max || s.looked >= s.look || s.bytes >= foundBytes
}

func (s *pageSearch) after() string {
	if s.over {
		return ""
	}
	return s.at.encode(s.of)
}

// page is how many entries the next command may read.
func (s *pageSearch) page() int {
	n := min(searchPage, s.look-s.looked)
	if !s.sifts {
		n = min(n, s.max-s.found)
	}
	return n
}

// see looks at a stored run, and reports whether it is found. It skips one that cannot be read: a
// take makes a dead letter of it.
func (s *pageSearch) see(e foundRun) bool {
	run := new(broker.TaskRun)
	s.looked++
	if wire.ParseRun(&s.names, []byte(s.q.StoredRunOf(e.key, e.entry)), run) != nil {
		return false
	}
	info := infoOf(run, s.state)
	if e.info != nil {
		info.Due, info.Session = e.info.Due, e.info.Session
	}
	if s.state == broker.StateRunning {
		run.Deliveries++
	}
	e.info = info
	return s.take(&e)
}

// take keeps what is found if it matches.
func (s *pageSearch) take(e *foundRun) bool {
	if s.match != nil && !s.match(e.info) {
		return false
	}
	s.found++
	s.bytes += len(e.entry)
	s.keep(e)
	return true
}

// list reads a page of a ready list.
func (s *pageSearch) list(ctx context.Context, p *searchPlace) error {
	reply, err := s.readList(ctx, p.key, -1)
	if err != nil || reply == nil {
		return err
	}
	behind := reply.Behind + int64(len(reply.Entries))
	first := reply.At - int64(len(reply.Entries)) + 1
	for i, entry := range reply.Entries {
		s.at.at, s.at.behind = first+int64(i), behind-int64(i)-1
		found := s.see(foundRun{key: p.key, entry: entry, index: s.at.at, behind: s.at.behind})
		s.at.passed(anchorOf(entry, false), !found || !s.removes)
		if s.full() && s.at.behind > 0 {
			return nil
		}
	}
	if reply.Behind == 0 {
		s.pass()
	}
	return nil
}

// readList reads entries of a list behind those that were read before. toward is where these move:
// -1 to the head, 1 to the tail. It returns nil if the page has no room to look for their place.
func (s *pageSearch) readList(ctx context.Context, key string, toward int64) (*script.SearchListReply, error) {
	for sought := 0; ; {
		at := s.at
		args := &script.SearchListArgs{Toward: toward, At: at.at, Behind: at.behind, Near: 1, Most: s.page(), Bytes: searchBytes}
		if at.seeking {
			args.Near = 0
		}
		list := args.Append(nil)
		for _, a := range at.anchors {
			list = append(list, a.String())
		}
		v, err := s.b.repeat(ctx, s.b.scripts.SearchList, s.b.clients.Work, []string{key}, list...)
		if err != nil {
			return nil, err
		}
		reply, err := script.ParseSearchList(v)
		if err != nil {
			return nil, err
		}
		if reply.Found == 1 {
			at.seeking = false
			return &reply, nil
		}
		if reply.Found < 0 {
			// All that was read is gone: what came behind it begins at the head of a ready
			// list, and where it stood from the tail among dead letters.
			at.anchors, at.stays, at.seeking = nil, nil, false
			if toward < 0 {
				at.at, at.behind = -1, 0
			}
			continue
		}
		at.at, at.behind, at.seeking = reply.At, reply.Behind, true
		if sought += reply.Looked; sought >= s.look {
			return nil, nil
		}
	}
}

// sortedSet reads a page of a sorted set of runs.
func (s *pageSearch) sortedSet(ctx context.Context, p *searchPlace) error {
	args := &script.SearchSetArgs{Which: p.set, Score: s.at.score, Opens: s.at.opens, Most: s.page(), Bytes: searchBytes}
	v, err := s.b.repeat(ctx, s.b.scripts.SearchSet, s.b.clients.Work, []string{p.key}, args.Append(nil)...)
	if err != nil {
		return err
	}
	entries, more, err := script.ParseSearchSet(v)
	if err != nil {
		return err
	}
	for i, e := range entries {
		info := new(broker.RunInfo)
		if s.state == broker.StateDelayed {
			info.Due = wire.ParseScore(e.Score)
		}
		s.see(foundRun{info: info, key: p.key, entry: e.Entry})
		s.at.score, s.at.opens = e.Score, opensOf(s.q, p.key, e.Entry)
		if s.full() && (more || i < len(entries)-1) {
			return nil
		}
	}
	if !more {
		s.pass()
	}
	return nil
}

// opensOf returns what opens an entry of a sorted set and no other one: the number in its
// backlog, or its header with the id.
func opensOf(q *queue, key, entry string) string {
	if key == q.Backlogs {
		return entry[:min(wire.BacklogPrefix, len(entry))]
	}
	end := wire.HeaderSize
	if len(entry) >= end {
		end += int(entry[end-1])
	}
	return entry[:min(end, len(entry))]
}
