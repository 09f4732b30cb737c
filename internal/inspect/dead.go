package inspect

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

// Letter is a dead letter and its queue.
type Letter struct {
	Queue string
	*broker.DeadLetter
}

// DeadQuery is what [Look.Dead] looks for.
type DeadQuery struct {
	Match func(*broker.DeadLetter) bool // may be called concurrently; nil: all match
	After string
	Max   int // letters at most; 0: broker.MaxFound
	Look  int // looks at about so many letters of each queue; 0: broker.MaxLook

	// LookInAll bounds the letters that are looked at in all queues together. All letters
	// of small queues are among them. 0: no further bound.
	LookInAll int
}

// DeadPage is a page of the dead letters of several queues.
type DeadPage struct {
	Letters []Letter
	Looked  int
	Total   int64
	After   string
}

// Dead returns a page of dead letters, the newest first.
//
// Several queues are merged by the times of their letters. The cursor is the last letter of
// the page, so that each page looks past those before it: there are 10,000 in a queue at
// most, unless its broker is told otherwise.
func (l *Look) Dead(ctx context.Context, q DeadQuery) (*DeadPage, error) {
	searcher, err := l.fleet.searcher()
	if err != nil {
		return nil, err
	}
	from, err := readCursor(q.After, ofDead)
	if err != nil {
		return nil, err
	}
	q.Max, q.Look = boundOf(q.Max, broker.MaxFound), boundOf(q.Look, broker.MaxLook)
	if len(l.Queues) == 1 {
		q.Look = boundOf(min(q.Look, q.LookInAll), q.Look)
		return l.deadOfOne(ctx, searcher, q, from)
	}
	infos, err := l.Infos(ctx)
	if err != nil {
		return nil, err
	}
	page := &DeadPage{}
	var some []string
	var counts []int64
	for i, info := range infos {
		if info != nil && info.Dead > 0 {
			some, counts = append(some, l.Queues[i]), append(counts, info.Dead)
			page.Total += info.Dead
		}
	}
	if q.LookInAll > 0 {
		q.Look = min(q.Look, shareOf(counts, q.LookInAll))
	}
	found, err := l.deadOfMany(ctx, searcher, q, from, some)
	if err != nil {
		return nil, err
	}
	page.merge(found, q.Max)
	return page, nil
}

// shareOf returns how many letters of each queue are looked at, if most are in all: queues
// that have fewer leave the rest to the others.
func shareOf(counts []int64, most int) int {
	slices.Sort(counts)
	left := int64(most)
	for i, n := range counts {
		if each := left / int64(len(counts)-i); n > each {
			return max(int(each), 1)
		}
		left -= n
	}
	return most
}

// deadOfOne is Dead for one queue, by the broker's own cursor.
func (l *Look) deadOfOne(ctx context.Context, s broker.Searcher, q DeadQuery, from *cursor) (*DeadPage, error) {
	queue, after := l.Queues[0], ""
	if from != nil {
		if from.Queue != queue || from.After == "" {
			return nil, broker.ErrAfter
		}
		after = from.After
	}
	got, err := s.FindDead(ctx, queue, broker.DeadSearch{Match: q.Match, After: after, Max: q.Max, Look: q.Look})
	if got == nil || errors.Is(err, broker.ErrAfter) {
		return nil, err
	}
	if err != nil {
		l.skip(queue, err)
	}
	page := &DeadPage{Looked: got.Looked, Total: got.Total}
	for _, letter := range got.Letters {
		page.Letters = append(page.Letters, Letter{queue, letter})
	}
	if got.After != "" {
		page.After = (&cursor{Of: ofDead, Queue: queue, After: got.After}).String()
	}
	return page, nil
}

// letterPlace is the place of a dead letter among those of all queues.
type letterPlace struct {
	at time.Time
	id string
}

func placeOf(letter *broker.DeadLetter) letterPlace { return letterPlace{letter.At, letter.ID} }

// compare returns a negative number if p is listed before other. Letters without a time are
// the last.
func (p letterPlace) compare(other letterPlace) int {
	return cmp.Or(other.at.Compare(p.at), cmp.Compare(other.id, p.id))
}

// deadPart is what was found in one queue: the first that match, and whether all were looked
// at. If not, those before last were.
type deadPart struct {
	letters []Letter
	looked  int
	all     bool
	last    letterPlace
}

// deadOfMany returns the dead letters of the queues behind a place, up to one more than fit
// on the page of each.
func (l *Look) deadOfMany(ctx context.Context, s broker.Searcher, q DeadQuery, from *cursor, queues []string) ([]deadPart, error) {
	isBehind := func(*broker.DeadLetter) bool { return true }
	if from != nil {
		place := letterPlace{from.At, from.ID}
		isBehind = func(letter *broker.DeadLetter) bool { return place.compare(placeOf(letter)) < 0 }
	}
	parts := make([]deadPart, len(queues))
	rest, err := surveyed(ctx, l, queues, func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[[]*broker.DeadLetter])) error {
		return s.SurveyDeadLetters(ctx, queues, part)
	}, func(i int, part maintenance.Part[[]*broker.DeadLetter]) {
		parts[i] = deadPart{all: true, looked: len(part.Found)}
		for _, letter := range part.Found {
			if isBehind(letter) && (q.Match == nil || q.Match(letter)) {
				parts[i].letters = append(parts[i].letters, Letter{queues[i], letter})
			}
		}
	})
	if err != nil {
		return nil, err
	}
	others, err := apart(ctx, l, pick(queues, rest), func(queue string) (deadPart, error) {
		return searchDead(ctx, s, queue, q, isBehind)
	})
	for n, i := range rest {
		parts[i] = others[n]
	}
	return parts, err
}

// searchDead returns the dead letters of a queue behind a place. Those before it do not count
// as looked at. It ends behind all letters of one time: these have an order in the queue that
// is not that of their ids.
func searchDead(ctx context.Context, s broker.Searcher, queue string, q DeadQuery, isBehind func(*broker.DeadLetter) bool) (p deadPart, err error) {
	var oldest time.Time // that was looked at
	match := func(letter *broker.DeadLetter) bool {
		if !isBehind(letter) {
			return false
		}
		p.looked++
		if !letter.At.IsZero() {
			oldest = letter.At
		}
		return q.Match == nil || q.Match(letter)
	}
	most, after := q.Max+1, ""
	for ; p.last.at.IsZero() || !oldest.Before(p.last.at); most = min(4*most, broker.MaxFound) { // many can have died at one time
		page, err := s.FindDead(ctx, queue, broker.DeadSearch{Match: match, After: after, Max: most, Look: max(q.Look, most)})
		if page == nil {
			return p, err
		}
		for _, letter := range page.Letters {
			p.letters = append(p.letters, Letter{queue, letter})
		}
		if p.all = page.After == ""; p.all || err != nil || page.After == after {
			return p, err
		}
		if after = page.After; p.last.at.IsZero() && (len(p.letters) > q.Max || p.looked >= q.Look) {
			p.last.at = oldest // without an id: behind all of that time
		}
	}
	return p, nil
}

// merge makes the page of what was found. It ends where a queue was not looked into further.
func (page *DeadPage) merge(parts []deadPart, most int) {
	var end *letterPlace
	for _, p := range parts {
		page.Looked += p.looked
		page.Letters = append(page.Letters, p.letters...)
		if !p.all && (end == nil || p.last.compare(*end) < 0) && p.last != (letterPlace{}) {
			end = &p.last
		}
	}
	slices.SortFunc(page.Letters, func(a, b Letter) int {
		return cmp.Or(placeOf(a.DeadLetter).compare(placeOf(b.DeadLetter)), cmp.Compare(a.Queue, b.Queue))
	})
	if end != nil {
		page.Letters = slices.DeleteFunc(page.Letters, func(letter Letter) bool { return end.compare(placeOf(letter.DeadLetter)) < 0 })
	}
	if len(page.Letters) > most {
		page.Letters = page.Letters[:most]
		last := placeOf(page.Letters[most-1].DeadLetter)
		end = &last
	}
	if end != nil {
		page.After = (&cursor{Of: ofDead, At: end.at, ID: end.id}).String()
	}
}
