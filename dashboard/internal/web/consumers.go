package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	mostServed      = 12 // queues of an instance on a page
	instancesOnPage = 100
)

// instanceRow is a consumer or a scheduler that is up.
type instanceRow struct {
	ID, Role  string
	Where     string
	Version   string
	Started   time.Time
	Seen      time.Time
	Notes     []note
	Queues    []servedQueue
	More      int // queues more
	IO, CPU   *slotsView
	Children  int
	Consumer  bool
	Address   string
	Session   string
	AllQueues int
}

type servedQueue struct {
	Name   string
	Weight string // empty: 1
}

// slotsView is how many slots of a kind are busy.
type slotsView struct {
	Busy, Total int
	Width       int // of the busy part, in percent
}

func newInstanceRow(i *broker.Instance, now time.Time) instanceRow {
	row := instanceRow{
		ID: i.ID, Role: string(i.Role), Where: fmt.Sprintf("%s:%d", i.Host, i.PID), Version: i.Version, Started: i.Started, Seen: i.Seen,
		Children: i.Children, Consumer: i.Role == broker.RoleConsumer, Address: i.Address, Session: i.Session, AllQueues: len(i.Queues) + i.More,
	}
	switch {
	case i.Stopping:
		row.Notes = append(row.Notes, note{"s-stopping", "stopping"})
	case now.Sub(i.Seen) > seenLately:
		row.Notes = append(row.Notes, note{"s-late", "silent"})
	default:
		row.Notes = append(row.Notes, note{"s-up", "up"})
	}
	names := slices.SortedFunc(maps.Keys(i.Queues), func(a, b string) int {
		return cmp.Or(cmp.Compare(i.Queues[b], i.Queues[a]), cmp.Compare(a, b))
	})
	for _, name := range names[:min(len(names), mostServed)] {
		q := servedQueue{Name: name}
		if w := i.Queues[name]; w != 1 {
			q.Weight = strconv.Itoa(w)
		}
		row.Queues = append(row.Queues, q)
	}
	row.More = row.AllQueues - len(row.Queues)
	if row.Consumer {
		row.IO, row.CPU = newSlotsView(i.Slots[broker.IO]), newSlotsView(i.Slots[broker.CPU])
	}
	return row
}

func newSlotsView(s broker.Slots) *slotsView {
	v := &slotsView{Busy: s.Busy, Total: s.Total}
	if s.Total > 0 {
		v.Width = min(100*s.Busy/s.Total, 100)
	}
	return v
}

type consumersView struct {
	Consumers, Schedulers []instanceRow
	Slots                 [2]slotsView // of all consumers, by kind
	Children              int
	Versions              []versionRow
	Empty                 *emptyView
	Pager                 *pagerView
	Total                 int
}

// versionRow is a version of programs that are up.
type versionRow struct {
	Version string
	Count   int
}

func consumersPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	if f.InstancesErr != nil {
		if f.Instances == nil {
			return nil, statusError{http.StatusNotImplemented, errors.Join(errors.New("who is up is unknown"), f.InstancesErr)}
		}
		r.warn("%v", f.InstancesErr)
	}
	v := new(consumersView)
	versions := map[string]int{}
	from := r.number("from", 0, 0, 1<<20)
	queue := r.get("queue")
	for _, i := range f.Instances {
		if queue != "" && !i.Serves(queue) {
			continue
		}
		versions[cmp.Or(i.Version, "unknown")]++
		for kind := range v.Slots {
			v.Slots[kind].Busy += i.Slots[kind].Busy
			v.Slots[kind].Total += i.Slots[kind].Total
		}
		v.Children += i.Children
		if v.Total++; v.Total <= from || v.Total > from+instancesOnPage {
			continue
		}
		if row := newInstanceRow(i, f.Schedules.Now); row.Consumer {
			v.Consumers = append(v.Consumers, row)
		} else {
			v.Schedulers = append(v.Schedulers, row)
		}
	}
	for _, version := range slices.Sorted(maps.Keys(versions)) {
		v.Versions = append(v.Versions, versionRow{version, versions[version]})
	}
	v.describe(r, from)
	return v, nil
}

func (v *consumersView) describe(r *request, from int) {
	switch {
	case v.Total == 0 && r.get("queue") != "":
		v.Empty = &emptyView{Title: "Nobody serves queue " + r.get("queue"), Text: "No consumer and no scheduler that is up does.", Href: "consumers", Link: "Show all"}
	case v.Total == 0:
		v.Empty = &emptyView{Title: "No consumer and no scheduler is up", Text: "Runs wait until a consumer is. This starts both in one process:", Code: r.site.Name + " serve"}
	case v.Total > instancesOnPage:
		to := min(from+instancesOnPage, v.Total)
		v.Pager = &pagerView{Text: fmt.Sprintf("%d to %d of %d", min(from+1, v.Total), to, v.Total)}
		if from > 0 {
			v.Pager.First = r.with("from", "")
		}
		if to < v.Total {
			v.Pager.Next = r.with("from", strconv.Itoa(to))
		}
	}
}
