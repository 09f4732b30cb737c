package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/jsonform"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// queued is a run that was queued.
type queued struct {
	ID    string `json:"id"`
	Task  string `json:"task"`
	Queue string `json:"queue"`
	// Repeated is set if the key of the request had queued it before.
	Repeated bool   `json:"repeated,omitempty" doc:"an earlier request with this Idempotency-Key queued it"`
	Warning  string `json:"warning,omitempty"`
}

// queuedBatch are runs that were queued.
type queuedBatch struct {
	Task    string   `json:"task"`
	Queue   string   `json:"queue"`
	IDs     []string `json:"ids" doc:"of the runs, in the order of their parameters"`
	Warning string   `json:"warning,omitempty"`
}

const (
	mediaJSON    = "application/json"
	mediaMsgpack = "application/msgpack"
	idempotency  = "Idempotency-Key"
)

// keyKept is how long the record of a run is kept at least, if a request has a key for it: so
// long a repeat finds the run.
const keyKept = 24 * time.Hour

// queueRun queues a run of a task.
func (a *API) queueRun(_ http.ResponseWriter, req *http.Request) (any, error) {
	t, err := a.task(req, access.Queue)
	if err != nil {
		return nil, err
	}
	q := queryOf(req, optionNames...)
	o := optionsOf(q)
	if q.err != nil {
		return nil, q.err
	}
	key, err := keyOf(req)
	if err != nil {
		return nil, err
	}
	if key != "" && o.Keep == "" && t.Spec().Keep < keyKept {
		o.Keep = keyKept.String()
	}
	options, err := o.of(key)
	if err != nil {
		return nil, err
	}
	payload, err := a.payload(req, t)
	if err != nil {
		return nil, err
	}
	if key == "" {
		run, err := a.Client.QueueTask(req.Context(), t, payload, options...)
		return replyQueued(req, run, err)
	}
	queue := o.Queue
	if queue == "" {
		queue = t.Spec().Queue
	}
	return a.queueOnce(req, t, queue, key, payload, options)
}

// replyQueued replies that a run was queued, or why not.
func replyQueued(req *http.Request, run *broker.TaskRun, err error) (any, error) {
	if run != nil && run.ID != "" {
		access.EntryOf(req.Context()).Set(access.Queue, run.Task, run.ID)
	}
	q := queued{}
	switch {
	case errors.Is(err, taskrt.ErrNotReplicated):
		q.Warning = err.Error()
	case err != nil:
		return nil, &runFailure{run, err}
	}
	q.ID, q.Task, q.Queue = run.ID, run.Task, run.Queue
	return reply{status: http.StatusCreated, header: locationOf(run.Queue, run.ID), value: q}, nil
}

// locationOf returns where a run is, relative to the path of a request that queues one.
func locationOf(queue, id string) map[string]string {
	return map[string]string{"Location": "../../runs/" + escapeID(id) + "?queue=" + url.QueryEscape(queue)}
}

// queueOnce queues a run whose id is the key of the request, unless an earlier request has
// queued it. Requests with one key take turns in this process, as the broker refuses a second
// run with an id only while the first lives.
func (a *API) queueOnce(req *http.Request, t taskrt.Task, queue, key string, payload []byte, options []taskrt.QueueOption) (any, error) {
	defer a.keys.lock(queue + "\x00" + key)()
	ctx := req.Context()
	access.EntryOf(ctx).Set(access.Queue, t.Name(), key)
	if before, err := a.before(ctx, t, queue, key, payload); before != nil || err != nil {
		return before, err
	}
	run, err := a.Client.QueueTask(ctx, t, payload, options...)
	var duplicates *taskrt.DuplicateError
	isOther := errors.As(err, &duplicates) && len(duplicates.Runs) > 0 && duplicates.Runs[0].ID != key
	if errors.Is(err, taskrt.ErrDuplicate) && !isOther {
		if before, notKnown := a.before(ctx, t, queue, key, payload); before != nil || notKnown != nil {
			return before, notKnown
		}
	}
	return replyQueued(req, run, err)
}

// before returns the reply with the run that an earlier request with the key queued, or nil.
func (a *API) before(ctx context.Context, t taskrt.Task, queue, key string, payload []byte) (any, error) {
	records, ok := a.Broker.(broker.Records)
	if !ok {
		return nil, refused("this broker keeps no records, which an %s needs", idempotency)
	}
	record, err := records.Record(ctx, queue, key)
	switch {
	case errors.Is(err, broker.ErrNoRecord):
		return nil, nil
	case err != nil:
		return nil, err
	case record.Task != t.Name() && !slices.Contains(t.Spec().Aliases, record.Task):
		return nil, &codedError{http.StatusUnprocessableEntity, "key-reused", fmt.Sprintf("a run of another task has the id %.64q in queue %s", key, queue)}
	}
	if sent := a.payloadOf(ctx, record); sent != nil && !bytes.Equal(sent, payload) {
		return nil, &codedError{http.StatusUnprocessableEntity, "key-reused", fmt.Sprintf("run %.64q was queued with other parameters", key)}
	}
	return reply{status: http.StatusOK, header: locationOf(queue, key), value: queued{ID: key, Task: record.Task, Queue: queue, Repeated: true}}, nil
}

// payloadOf returns the parameters of a run, nil if they are not known any more.
func (a *API) payloadOf(ctx context.Context, record *broker.Record) []byte {
	if record.State.Ended() {
		return record.Payload
	}
	d, err := a.Inspector.Run(ctx, record.ID, record.Queue)
	if err != nil || d.Run == nil {
		return nil
	}
	return d.Run.Payload
}

// keyOf returns the Idempotency-Key of a request, which can stand in quotes.
func keyOf(req *http.Request) (string, error) {
	key := strings.TrimSpace(req.Header.Get(idempotency))
	if inner, ok := strings.CutPrefix(key, `"`); ok {
		key = strings.TrimSuffix(inner, `"`)
	}
	if key == "" && req.Header.Values(idempotency) != nil {
		return "", invalid("the %s is empty", idempotency)
	}
	if key != "" && (&broker.TaskRun{ID: key, Task: "-", Queue: "-"}).Validate() != nil {
		return "", invalid("the %s is no id of a run: it has more than %d bytes, or others than printable ASCII without spaces", idempotency, broker.MaxID)
	}
	return key, nil
}

// queueBatch queues a run for each of some parameters, all of them or none.
func (a *API) queueBatch(_ http.ResponseWriter, req *http.Request) (any, error) {
	t, err := a.task(req, access.Queue)
	if err != nil {
		return nil, err
	}
	q := queryOf(req, optionNames...)
	o := optionsOf(q)
	if q.err != nil {
		return nil, q.err
	}
	if req.Header.Values(idempotency) != nil {
		return nil, invalid("an %s is for single runs: it is the id of the run", idempotency)
	}
	options, err := o.of("")
	if err != nil {
		return nil, err
	}
	payloads, err := a.payloads(req, t)
	if err != nil {
		return nil, err
	}
	runs, err := a.Client.QueueTasks(req.Context(), t, payloads, options...)
	b := queuedBatch{Task: t.Name(), IDs: []string{}}
	for _, run := range runs {
		b.IDs, b.Queue = append(b.IDs, run.ID), run.Queue
	}
	access.EntryOf(req.Context()).Set(access.Queue, t.Name(), b.IDs...)
	switch {
	case errors.Is(err, taskrt.ErrNotReplicated):
		b.Warning = err.Error()
	case errors.Is(err, taskrt.ErrOutcomeUnknown) && len(runs) > 0:
		return nil, &runFailure{runs[0], err}
	case err != nil:
		return nil, err
	}
	return reply{status: http.StatusCreated, value: b}, nil
}

// maxBody is how many bytes the parameters of a request may have: in JSON they can take
// several times what they do in MessagePack.
const maxBody = 8 << 20

// body reads the body of a request, and returns its media type.
func body(req *http.Request) ([]byte, string, error) {
	media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || media != mediaJSON && media != mediaMsgpack {
		return nil, "", &codedError{http.StatusUnsupportedMediaType, "unsupported-type", "the Content-Type has to be " + mediaJSON + " or " + mediaMsgpack}
	}
	b, err := io.ReadAll(http.MaxBytesReader(nil, req.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, "", err
	case err != nil:
		return nil, "", invalid("the body did not arrive")
	}
	return b, media, nil
}

// payload returns the parameters in the body of a request.
func (a *API) payload(req *http.Request, t taskrt.Task) ([]byte, error) {
	b, media, err := body(req)
	if err != nil {
		return nil, err
	}
	if media == mediaMsgpack {
		return b, checkParams(t, b, "")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		b = []byte("{}")
	}
	return a.encode(t, b, "")
}

// payloads returns the parameters of a batch: those of the elements of an array.
func (a *API) payloads(req *http.Request, t taskrt.Task) ([][]byte, error) {
	b, media, err := body(req)
	if err != nil {
		return nil, err
	}
	if media == mediaMsgpack {
		return msgpackPayloads(t, b)
	}
	all, err := elements(b)
	if err != nil {
		return nil, err
	}
	payloads := make([][]byte, len(all))
	for i, one := range all {
		if payloads[i], err = a.encode(t, one, fmt.Sprintf("/%d", i)); err != nil {
			return nil, err
		}
	}
	return payloads, nil
}

// elements splits a JSON array. It stops at the bound: an array of so many zeros as fit into a
// body would take fifty times as much memory.
func elements(b []byte) (all []json.RawMessage, err error) {
	if !json.Valid(b) || !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("[")) {
		return nil, invalid("the body is no JSON array of the parameters of runs")
	}
	in := json.NewDecoder(bytes.NewReader(b))
	if _, err := in.Token(); err != nil {
		return nil, invalid("the body is no JSON array of the parameters of runs")
	}
	for in.More() {
		if len(all) == broker.MaxRuns {
			return nil, &codedError{http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("a batch has at most %d runs", broker.MaxRuns)}
		}
		var one json.RawMessage
		if err := in.Decode(&one); err != nil {
			return nil, invalid("the body is no JSON array of the parameters of runs")
		}
		all = append(all, one)
	}
	return all, nil
}

// msgpackPayloads splits a MessagePack array.
func msgpackPayloads(t taskrt.Task, b []byte) ([][]byte, error) {
	in := codec.NewReader(b)
	n := in.ArrayLen()
	if in.Err() != nil || n > broker.MaxRuns || n > len(b) {
		return nil, invalid("the body is no MessagePack array of the parameters of at most %d runs", broker.MaxRuns)
	}
	payloads := make([][]byte, 0, n)
	for i := range n {
		one := in.Raw()
		if in.Err() != nil {
			return nil, invalid("the body is no MessagePack array of the parameters of runs")
		}
		if err := checkParams(t, one, fmt.Sprintf("/%d", i)); err != nil {
			return nil, err
		}
		payloads = append(payloads, one)
	}
	if in.Done() != nil {
		return nil, invalid("there is more behind the array")
	}
	return payloads, nil
}

// encode returns the parameters of a JSON text. at is the place of the text in the body.
func (a *API) encode(t taskrt.Task, text []byte, at string) ([]byte, error) {
	form, err := a.forms.Params(t.Spec().Params)
	if err != nil {
		return nil, fmt.Errorf("read the form of the parameters of task %s: %w", t.Name(), err)
	}
	payload, err := form.EncodeWith(text, jsonform.Input{Secrets: t.Spec().Secrets})
	var errs jsonform.Errors
	if errors.As(err, &errs) {
		for _, e := range errs {
			e.Pointer = at + e.Pointer
		}
		return nil, errs
	}
	if err != nil {
		return nil, err
	}
	return payload, checkParams(t, payload, at)
}

// checkParams has the task itself read the parameters: it has types that decide what their
// values are.
func checkParams(t taskrt.Task, payload []byte, at string) error {
	if _, err := t.DecodeParams(payload); err != nil {
		what := err.Error()
		if len(t.Spec().Secrets) > 0 {
			what = "they do not fit the task" // the error may quote them
		}
		return jsonform.Errors{&jsonform.Error{Pointer: at, Problem: jsonform.Format, Expected: "parameters of task " + t.Name(), Found: "others: " + what}}
	}
	return nil
}

// keyLocks are locks by name, for as long as somebody has or wants them.
type keyLocks struct {
	mu     sync.Mutex
	locked map[string]*keyLock
}

type keyLock struct {
	mu    sync.Mutex
	users int
}

// lock blocks until nobody else has the lock of a name. The caller calls unlock.
func (k *keyLocks) lock(name string) (unlock func()) {
	k.mu.Lock()
	l := k.locked[name]
	if l == nil {
		l = new(keyLock)
		k.locked[name] = l
	}
	l.users++
	k.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locked, name)
		}
	}
}
