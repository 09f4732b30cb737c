package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/taskgen/taskgen/internal/openapi"
)

// openapi replies with the document of the API.
func (a *API) openapi(_ http.ResponseWriter, _ *http.Request) (any, error) {
	return document(a.docs[0])
}

// asyncapi replies with the document of the runs in the broker.
func (a *API) asyncapi(_ http.ResponseWriter, _ *http.Request) (any, error) {
	return document(a.docs[1])
}

// document returns a document, which is made when somebody first asks.
func document(make func() ([]byte, error)) (any, error) {
	b, err := make()
	return json.RawMessage(b), err
}

func (a *API) info() openapi.Info {
	return openapi.Info{Title: a.Name, Version: "1", Description: "Queues and operates the tasks of " + a.Name + "."}
}

// describe returns the document of the API.
func (a *API) describe() ([]byte, error) {
	return openapi.Document(a.info(), a.specs(), operations(a.routes), problemDocs())
}

// describeRuns returns the document of the runs in the broker.
func (a *API) describeRuns() ([]byte, error) { return openapi.AsyncAPI(a.info(), a.specs()) }

// specs returns the tasks as documents describe them.
func (a *API) specs() (all []openapi.Task) {
	for _, t := range a.Tasks {
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
		all = append(all, openapi.Problem{Code: p.code, Status: p.status, Doc: p.doc})
	}
	return all
}
