package web

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/taskgen/taskgen/broker"
)

// payload serves the bytes of a run's parameters as a file, unless some of them are secret.
func (s *site) payload(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	d, err := s.runDetail(r.Context(), broker.RunRef{Queue: q.Get("queue"), ID: q.Get("id")})
	if err == nil {
		err = readableRun(r.Context(), d.Task)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	payload, why := d.Payload(), hidesPayload(s.task(d.Task))
	switch {
	case why != "":
		s.fail(w, r, statusError{http.StatusForbidden, errors.New(why)})
	case payload == nil:
		s.fail(w, r, notFound(errors.New("the parameters of this run are not known any more")))
	default:
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="parameters.msgpack"`)
		h.Set("Content-Length", strconv.Itoa(len(payload)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(payload) // who asked is gone
		}
	}
}
