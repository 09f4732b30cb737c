package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/openapi"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// openapi replies with the document of the API.
func (a *API) openapi(_ http.ResponseWriter, req *http.Request) (any, error) {
	return a.document(req, 0, a.describe)
}

// asyncapi replies with the document of the runs in the broker.
func (a *API) asyncapi(_ http.ResponseWriter, req *http.Request) (any, error) {
	return a.document(req, 1, a.describeRuns)
}

// document returns a document with the tasks that the user may read or queue. That of all
// tasks is made when somebody first asks.
func (a *API) document(req *http.Request, which int, describe func([]taskrt.Task) ([]byte, error)) (any, error) {
	u := access.UserOf(req.Context())
	var seen []taskrt.Task
	for _, t := range a.Tasks {
		if u.Allows(access.Read, t.Name()) || u.Allows(access.Queue, t.Name()) {
			seen = append(seen, t)
		}
	}
	read := a.docs[which]
	if len(seen) < len(a.Tasks) {
		read = func() ([]byte, error) { return describe(seen) }
	}
	b, err := read()
	return json.RawMessage(b), err
}

func (a *API) info() openapi.Info {
	return openapi.Info{Title: a.Name, Version: "1", Description: "Queues and operates the tasks of " + a.Name + "."}
}

// describe returns the document of the API with some tasks.
func (a *API) describe(tasks []taskrt.Task) ([]byte, error) {
	return openapi.Document(a.info(), specs(tasks), operations(a.routes), problemDocs())
}

// describeRuns returns the document of the runs of some tasks in the broker.
func (a *API) describeRuns(tasks []taskrt.Task) ([]byte, error) {
	return openapi.AsyncAPI(a.info(), specs(tasks))
}

// specs returns tasks as documents describe them.
func specs(tasks []taskrt.Task) (all []openapi.Task) {
	for _, t := range tasks {
		s := t.Spec()
		all = append(all, openapi.Task{
			Name: s.Name, Doc: s.Doc, Kind: s.Kind.String(), Queue: s.Queue, Tags: s.Tags, Params: s.Params, Result: s.Result, Secrets: s.Secrets,
		})
	}
	return all
}

// operations returns the routes as documents describe them.
func operations(routes []route) (all []openapi.Operation) {
	for _, r := range routes {
		path := strings.NewReplacer("{$}", "", "...}", "}").Replace(r.Path)
		_, tag, _ := strings.Cut(path, "/")
		tag, _, _ = strings.Cut(tag, "/")
		op := openapi.Operation{
			Method: r.Method, Path: path, ID: r.id, Summary: r.summary, Tag: strings.TrimSuffix(tag, ".json"), PerTask: r.perTask, Action: string(r.action),
			Query: paramDocs(r.query), Header: paramDocs(r.header), Body: r.body, Problems: append(append([]string{}, common...), r.problems...),
		}
		if r.body != nil {
			op.Problems = append(op.Problems, "too-large", "unsupported-type")
		}
		for _, o := range r.replies {
			op.Replies = append(op.Replies, openapi.Reply{Status: o.status, Doc: o.doc, Value: o.value, Type: o.media})
		}
		all = append(all, op)
	}
	return all
}

func paramDocs(params []param) (all []openapi.Param) {
	for _, p := range params {
		all = append(all, openapi.Param{Name: p.name, Doc: p.doc, Value: p.value, Repeat: p.repeat, Enum: p.enum})
	}
	return all
}

func problemDocs() (all []openapi.Problem) {
	for _, p := range problems {
		all = append(all, openapi.Problem{Code: p.code, Status: p.status, Name: http.StatusText(p.status), Doc: p.doc})
	}
	return all
}
