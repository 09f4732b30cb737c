package taskapp

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/fleet"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// scaleView is the JSON of /scale.
type scaleView struct {
	Queued        int64   `json:"queued"`      // due, and nothing keeps them from starting
	DelayedDue    int64   `json:"delayed_due"` // of queued: were delayed, and are not moved to the others yet
	Delayed       int64   `json:"delayed"`     // not due yet
	Held          int64   `json:"held"`        // due, and held back by a limit or their turn
	Running       int64   `json:"running"`
	Dead          int64   `json:"dead"`
	Consumers     int     `json:"consumers"`      // that are up and take from these queues
	Slots         int64   `json:"slots"`          // of these consumers, for the kinds of the tasks
	OldestSeconds float64 `json:"oldest_seconds"` // since when the run is due that waits the longest
	Want          int64   `json:"want"`           // consumers
}

// Scale returns a handler that replies with the load of queues as JSON, and with how many
// consumers that wants, for autoscalers. Its parameters are the queues (queue, repeatable;
// default those of the tasks) and the slots of one consumer (slots; default what consumers
// that are up have). It replies with status 503 if the broker does
// not reply in full for these queues.
func (s *Serving) Scale() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		queues, slots, err := scaleParams(r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if len(queues) == 0 {
			queues = ownQueues(s.Tasks)
		}
		f := s.readFleet(r.Context())
		if !known(f, queues) {
			http.Error(w, "the broker does not reply in full", http.StatusServiceUnavailable)
			return
		}
		view, unknown := s.scale(f, queues, slots)
		if unknown != "" {
			http.Error(w, "no queue is named "+text.Printable(unknown), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view)
	})
}

// known reports whether the broker has replied in full for the queues: those of others stop no
// autoscaler.
func known(f *fleet.Fleet, queues []string) bool {
	return !slices.ContainsFunc(queues, func(queue string) bool { return !f.Knows(queue) })
}

// scaleParams reads the parameters of /scale: each queue once, as its load counts once. A
// misspelt or empty one is an error, since an autoscaler would act upon the load of others.
func scaleParams(query string) (queues []string, slots int64, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, 0, errors.New("the parameters cannot be read; they are queue=NAME, repeatable, and slots=N")
	}
	for name, given := range values {
		switch {
		case name == "queue" && slices.Contains(given, ""):
			return nil, 0, errors.New("queue is empty; leave it out for the queues of the tasks")
		case name == "queue":
			slices.Sort(given)
			queues = slices.Compact(given)
		case name == "slots":
			n, err := strconv.ParseInt(given[0], 10, 32)
			if err != nil || n < 1 || len(given) > 1 {
				return nil, 0, errors.New("slots is not a whole number above 0")
			}
			slots = n
		default:
			return nil, 0, errors.New("no parameter is named " + text.Printable(name) + "; they are queue=NAME, repeatable, and slots=N")
		}
	}
	return queues, slots, nil
}

// scale returns the load of some queues, or one of them that nobody knows. slots are those
// of one consumer; 0: as consumers have that are up.
func (s *Serving) scale(f *fleet.Fleet, queues []string, slots int64) (view scaleView, unknown string) {
	for _, queue := range queues {
		at := slices.IndexFunc(f.Queues, func(info *broker.QueueInfo) bool { return info.Queue == queue })
		if at < 0 {
			return view, queue
		}
		info := f.Queues[at]
		held := min(info.Held, info.Queued)
		view.Queued += info.Queued - held
		view.Held += held
		view.Delayed += info.Delayed
		view.DelayedDue += min(info.DelayedDue, info.Queued-held)
		view.Running += info.Running
		view.Dead += info.Dead
		view.OldestSeconds = max(view.OldestSeconds, f.Oldest(info).Seconds())
	}
	kinds := s.kinds(queues)
	for _, i := range f.Instances {
		if i.Role != broker.RoleConsumer || i.Stopping || !slices.ContainsFunc(queues, i.Serves) {
			continue
		}
		view.Consumers++
		for kind, in := range i.Slots {
			if kinds[kind] {
				view.Slots += int64(in.Total)
			}
		}
	}
	view.Want = want(view, slots)
	return view, ""
}

// want returns how many consumers there are to be: so many that each run that executes or
// could start has a slot. Runs that are held back are no work for more consumers, and
// delayed ones none yet.
func want(v scaleView, slots int64) int64 {
	work := v.Running + v.Queued
	switch {
	case work == 0:
		return 0
	case slots > 0: // given
	case v.Slots > 0:
		slots = max(v.Slots/int64(v.Consumers), 1)
	default:
		return 1 // nobody knows: once one is up, it tells
	}
	return (work + slots - 1) / slots
}

// kinds returns which kinds the tasks of some queues are of, both if there are none.
func (s *Serving) kinds(queues []string) (kinds [2]bool) {
	for _, t := range s.Tasks {
		spec := t.Spec()
		if slices.ContainsFunc(spec.Queues(), func(q string) bool { return slices.Contains(queues, q) }) {
			kinds[spec.Kind] = true
		}
	}
	if kinds == [2]bool{} {
		return [2]bool{taskrt.IO: true, taskrt.CPU: true}
	}
	return kinds
}
