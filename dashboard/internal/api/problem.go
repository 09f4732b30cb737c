package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	"github.com/taskgen/taskgen/internal/jsonform"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// problem is a code of errors. Each is documented, as clients decide by it.
type problem struct {
	code   string
	status int
	doc    string
}

// problems are all codes that a reply can have.
var problems = []problem{
	{"invalid-request", 400, "a parameter of the query, a header or the body is not as it should be"},
	{"invalid-parameters", 400, "the parameters of the run do not fit the task; errors has the place of each as a JSON Pointer"},
	{"no-user", 401, "the request does not say who sends it"},
	{"denied", 403, "the user may not do this"},
	{"not-found", 404, "there is no such path or queue"},
	{"unknown-task", 404, "the program has no such task"},
	{"no-run", 404, "no such run is known: it never was, or no record of it is kept"},
	{"no-schedule", 404, "there is no such schedule"},
	{"no-job", 404, "there is no such job in this process"},
	{"method-not-allowed", 405, "the path is for other methods"},
	{"ambiguous", 409, "several queues have a run of this id: name one by the parameter queue"},
	{"duplicate", 409, "a live run has the id, or the unique key; id and queue name it"},
	{"too-large", 413, "the body or the parameters are too large"},
	{"unsupported-type", 415, "the Content-Type is neither application/json nor application/msgpack"},
	{"refused", 422, "the task or the broker refuses this; detail says why"},
	{"key-reused", 422, "the Idempotency-Key was used for something else"},
	{"too-many-requests", 429, "the user sends too many requests; Retry-After says when to go on"},
	{"internal", 500, "something else went wrong; the log of the server has it"},
	{"queue-full", 503, "the broker refuses more runs for now; nothing was queued"},
	{"unavailable", 503, "the broker cannot be reached for now; nothing was changed"},
	{"outcome-unknown", 504, "the broker did not reply in time: it has done this, or not. id names the run to ask for"},
}

// codedError is an error with its code.
type codedError struct {
	status int
	code   string
	detail string
}

func (e *codedError) Error() string { return e.detail }

func invalid(format string, args ...any) error {
	return &codedError{http.StatusBadRequest, "invalid-request", fmt.Sprintf(format, args...)}
}

func refused(format string, args ...any) error {
	return &codedError{http.StatusUnprocessableEntity, "refused", fmt.Sprintf(format, args...)}
}

// placed is where something is wrong in a body.
type placed struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// runFailure is an error of the queueing of a run that may be known by its id.
type runFailure struct {
	run *broker.TaskRun
	err error
}

func (e *runFailure) Error() string { return e.err.Error() }
func (e *runFailure) Unwrap() error { return e.err }

// retryTime is after how long a client tries again, at the earliest.
const retryTime = 2 * time.Second

// fail replies with an error.
func (a *API) fail(w http.ResponseWriter, req *http.Request, r route, err error) {
	p := problemOf(err)
	if p.status == 0 {
		p = described{problem: byCode("internal"), detail: "the request was not done; the log of the server has the error"}
		a.Logger.Error("the API cannot do a request", "method", req.Method, "path", req.URL.Path, "error", err)
	}
	if p.status >= http.StatusInternalServerError {
		access.EntryOf(req.Context()).Fail(err)
	}
	more := map[string]any{"code": p.code}
	for name, value := range p.more {
		more[name] = value
	}
	if p.status == http.StatusServiceUnavailable || p.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", access.RetryAfter(retryTime))
	}
	access.WriteProblem(w, access.Problem{Status: p.status, Detail: p.detail, More: more})
}

// described is a problem of a reply.
type described struct {
	problem
	detail string
	more   map[string]any
}

func byCode(code string) problem {
	for _, p := range problems {
		if p.code == code {
			return p
		}
	}
	return problem{code: code, status: http.StatusInternalServerError}
}

// outage says whether an error is that the broker cannot be asked.
func outage(err error) bool {
	return errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrClosed)
}

// problemOf returns what an error is for a client, with status 0 if it is not meant for one.
func problemOf(err error) described {
	var (
		coded     *codedError
		denied    *access.DeniedError
		tooLarge  *http.MaxBytesError
		ambiguous *taskrt.AmbiguousError
		forms     jsonform.Errors
		duplicate *taskrt.DuplicateError
		run       *runFailure
		request   *bulk.RequestError
	)
	with := func(code string) described { return described{problem: byCode(code), detail: err.Error()} }
	d := described{}
	switch {
	case errors.As(err, &coded):
		return described{problem: problem{code: coded.code, status: coded.status}, detail: coded.detail}
	case errors.As(err, &denied):
		return with("denied")
	case errors.As(err, &tooLarge):
		return described{problem: byCode("too-large"), detail: fmt.Sprintf("the body has more than %d bytes", tooLarge.Limit)}
	case errors.As(err, &forms):
		return ofForms(forms)
	case errors.As(err, &ambiguous):
		d = with("ambiguous")
		d.more = map[string]any{"queues": ambiguous.Queues}
		return d
	case errors.As(err, &request):
		return with("refused")
	case errors.Is(err, bulk.ErrBusy):
		return with("too-many-requests")
	case errors.Is(err, bulk.ErrNoJob):
		return with("no-job")
	case errors.Is(err, taskrt.ErrAfter):
		return described{problem: byCode("invalid-request"), detail: "after is not where a list of this kind, and of these queues, ended"}
	case errors.Is(err, taskrt.ErrDuplicate):
		d = with("duplicate")
	case errors.Is(err, taskrt.ErrOutcomeUnknown):
		d = with("outcome-unknown")
	case errors.Is(err, taskrt.ErrPayloadTooLarge):
		return with("too-large")
	case errors.Is(err, taskrt.ErrQueueFull):
		return with("queue-full")
	case errors.Is(err, taskrt.ErrNoRecord) && outage(err):
		// What was not found may be where nothing could be read: a client that waits for a
		// run has to ask again.
		return with("unavailable")
	case errors.Is(err, taskrt.ErrNoRecord):
		return with("no-run")
	case errors.Is(err, taskrt.ErrNoSchedule):
		return with("no-schedule")
	case outage(err):
		return with("unavailable")
	case errors.Is(err, context.DeadlineExceeded):
		// Which step it was is unknown, and so whether that is done.
		d = with("outcome-unknown")
	case strings.Contains(err.Error(), "broker has no "), strings.Contains(err.Error(), "broker keeps no "): // a part of the contract
		return with("refused")
	default:
		return d
	}
	d.more = make(map[string]any)
	if errors.As(err, &run) && run.run != nil && run.run.ID != "" {
		d.more["id"], d.more["queue"] = run.run.ID, run.run.Queue
	}
	if errors.As(err, &duplicate) && len(duplicate.Runs) > 0 {
		d.more["id"] = duplicate.Runs[0].ID
		var all []map[string]any
		for _, r := range duplicate.Runs[:min(len(duplicate.Runs), maxErrors)] {
			all = append(all, map[string]any{"run": r.Index, "id": r.ID})
		}
		d.more["duplicates"] = all
	}
	return d
}

// maxErrors is how many errors of a body, or duplicates, a reply has.
const maxErrors = 100

// ofForms returns what is wrong with the JSON of parameters.
func ofForms(errs jsonform.Errors) described {
	d := described{problem: byCode("invalid-parameters"), detail: "the parameters do not fit the task"}
	var all []placed
	for _, e := range errs[:min(len(errs), maxErrors)] {
		all = append(all, placed{e.Pointer, e.Message()})
		if e.Problem == jsonform.Limit {
			d.problem = byCode("too-large")
		}
	}
	d.more = map[string]any{"errors": all}
	if len(all) > 0 {
		d.detail = errs[0].Error()
		d.more["pointer"] = all[0].Pointer
	}
	return d
}
