package openapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	greeter "github.com/taskgen/taskgen/examples/greeter/tasks"
	imaging "github.com/taskgen/taskgen/examples/imaging/tasks"
	shop "github.com/taskgen/taskgen/examples/shop/tasks"
	"github.com/taskgen/taskgen/internal/codectest"
	"github.com/taskgen/taskgen/internal/openapi"
	"github.com/taskgen/taskgen/internal/openapi/openapitest"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// tasks returns the tasks of every encoded shape and of some examples, and some with names
// and types that are hard to tell apart.
func tasks() []openapi.Task {
	var list []openapi.Task
	for _, set := range [][]taskrt.Task{codectest.Tasks(), greeter.Tasks(), imaging.Tasks(), shop.Tasks()} {
		for _, t := range set {
			s := t.Spec()
			list = append(list, openapi.Task{
				Name: s.Name, Doc: s.Doc, Queue: s.Queue, Tags: s.Tags, Params: s.Params, Result: s.Result, Secrets: s.Secrets,
			})
		}
	}
	return append(list,
		openapi.Task{Name: "send_mail", Queue: "a/b", Tags: []string{"mail"}, Params: "to string, letter @Letter={kin [@Letter]}", Result: "@Letter={kin [@Letter]}"},
		openapi.Task{Name: "send.mail", Queue: "a.b", Doc: "Doc </script>.", Params: "password string", Secrets: []string{"password"}},
		openapi.Task{Name: "größe", Queue: "*", Params: "x @Größe={y [@Größe], \"a b\" int64}", Result: "duration"},
		openapi.Task{Name: "results", Queue: "results", Params: ""},
	)
}

// page and run are like those of the HTTP API.
type page[T any] struct {
	Items []T    `json:"items"`
	After string `json:"after,omitempty" doc:"where to go on"`
}

type run struct {
	base
	State   string            `json:"state" enum:"queued,running"`
	Due     time.Time         `json:"due"`
	Params  json.RawMessage   `json:"params,omitempty"`
	Parent  *run              `json:"parent,omitempty"`
	Child   *run              `json:"child"`
	Headers map[string]string `json:"headers"`
	hidden  int
}

type base struct {
	ID string `json:"id"`
}

type outcome struct {
	untyped
	Result openapi.Result `json:"result,omitempty"`
}

type untyped struct {
	ID     string          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
}

func operations() []openapi.Operation {
	return []openapi.Operation{
		{Method: "GET", Path: "/runs", ID: "listRuns", Summary: "Lists runs.", Tag: "runs", Action: "read", Query: []openapi.Param{
			{Name: "state", Doc: "only these", Value: "", Repeat: true, Enum: []string{"queued", "running"}},
			{Name: "since", Doc: "queued since", Value: time.Time{}},
			{Name: "older", Doc: "older than", Value: time.Duration(0)},
			{Name: "limit", Doc: "at most", Value: 0},
		}, Replies: []openapi.Reply{{Status: 200, Doc: "a page of runs", Value: page[run]{}}}, Problems: []string{"denied", "unavailable"}},
		{Method: "GET", Path: "/runs/{id}", ID: "getRun", Summary: "Shows a run.", Tag: "runs", Replies: []openapi.Reply{{Status: 200, Doc: "the run", Value: run{hidden: 0}}}, Problems: []string{"no-run"}},
		{Method: "DELETE", Path: "/runs/{id}", ID: "cancelRun", Summary: "Cancels a run.", Tag: "runs", Replies: []openapi.Reply{{Status: 204, Doc: "cancelled"}}, Problems: []string{"no-run"}},
		{Method: "GET", Path: "/events", ID: "events", Summary: "Streams events.", Tag: "events", Replies: []openapi.Reply{{Status: 200, Doc: "a stream", Type: "text/event-stream"}}},
		{
			Method: "POST", Path: "/tasks/{task}/runs", ID: "queue{Task}", Summary: "Queues a run of {task}.", PerTask: true, Action: "queue",
			Header: []openapi.Param{{Name: "Idempotency-Key", Doc: "the id of the run"}}, Body: openapi.Params{},
			Replies: []openapi.Reply{{Status: 201, Doc: "queued", Value: outcome{}}}, Problems: []string{"invalid-parameters", "duplicate", "ambiguous", "denied"},
		},
		{
			Method: "POST", Path: "/tasks/{task}/batch", ID: "queue{Task}Batch", Summary: "Queues runs of {task}.", PerTask: true,
			Body: []openapi.Params{}, Replies: []openapi.Reply{{Status: 201, Doc: "queued", Value: page[string]{}}},
		},
	}
}

func problems() []openapi.Problem {
	return []openapi.Problem{
		{"invalid-parameters", 400, "Bad Request", "they do not fit"},
		{"denied", 403, "Forbidden", "not allowed"},
		{"no-run", 404, "Not Found", "no such run"},
		{"duplicate", 409, "Conflict", "there is one"},
		{"ambiguous", 409, "Conflict", "there are several"},
		{"unavailable", 503, "Service Unavailable", "no broker"},
	}
}

var info = openapi.Info{Title: "test", Version: "1.2.3", Description: "For tests."}

// TestDocumentIsOpenAPI validates the document by the meta-schemas of OpenAPI 3.1.
func TestDocumentIsOpenAPI(t *testing.T) {
	text, err := openapi.Document(info, tasks(), operations(), problems())
	require.NoError(t, err)
	again, err := openapi.Document(info, tasks(), operations(), problems())
	require.NoError(t, err)
	require.Equal(t, string(text), string(again))

	openapitest.OpenAPI(t, text)
}

// TestOperations checks what the document says of a task.
func TestOperations(t *testing.T) {
	text, err := openapi.Document(info, tasks(), operations(), problems())
	require.NoError(t, err)
	doc := openapitest.OpenAPI(t, text)
	post := func(path ...string) map[string]any {
		return openapitest.At(doc, append([]string{"paths"}, path...)...).(map[string]any)
	}
	send := post("/tasks/send_mail/runs", "post")
	require.Equal(t, "queueSendMail", send["operationId"])
	require.Equal(t, "queueSendMail2", post("/tasks/send.mail/runs", "post")["operationId"])
	require.Equal(t, "queueGrU00F6U00DFE", post("/tasks/gr%C3%B6%C3%9Fe/runs", "post")["operationId"])
	require.Equal(t, []any{"mail"}, send["tags"])
	require.Equal(t, "#/components/schemas/SendMailParams", openapitest.At(send, "requestBody", "content", "application/json", "schema", "$ref"))
	require.Equal(t, "#/components/schemas/SendMailParams", openapitest.At(post("/tasks/send_mail/batch", "post"), "requestBody", "content", "application/json", "schema", "items", "$ref"))
	require.Equal(t, "#/components/schemas/SendMailOutcome", openapitest.At(send, "responses", "201", "content", "application/json", "schema", "$ref"))
	schemas := openapitest.At(doc, "components", "schemas").(map[string]any)
	outcome := openapitest.At(schemas, "SendMailOutcome", "allOf").([]any)
	require.Equal(t, "#/components/schemas/Untyped", openapitest.At(outcome[0], "$ref"))
	require.Equal(t, "#/components/schemas/SendMailResult", openapitest.At(outcome[1], "properties", "result", "$ref"))
	require.Equal(t, false, openapitest.At(schemas, "SendMailParamsLetter", "additionalProperties"))
	require.Equal(t, []any{"duplicate", "ambiguous"}, openapitest.At(referred(doc, openapitest.At(send, "responses", "409")), "content", "application/problem+json", "schema", "allOf").([]any)[1].(map[string]any)["properties"].(map[string]any)["code"].(map[string]any)["enum"])
	require.NotNil(t, openapitest.At(referred(doc, openapitest.At(doc, "paths", "/runs", "get", "responses", "503")), "headers", "Retry-After"))
	require.Contains(t, openapitest.At(post("/tasks/send.mail/runs", "post"), "description"), "Never shown again: password.")
	require.Equal(t, []any{"id", "state", "due", "child", "headers"}, openapitest.At(schemas, "Run", "required"))

	_, err = openapi.Document(info, nil, []openapi.Operation{{ID: "x", Problems: []string{"none"}}}, nil)
	require.EqualError(t, err, `describe operation x: there is no problem "none"`)
	_, err = openapi.Document(info, []openapi.Task{{Name: "x", Params: "?"}}, nil, nil)
	require.ErrorContains(t, err, "read parameters of task x: ")
}

// TestAsyncAPI validates the document by the meta-schema of AsyncAPI 3.0.
func TestAsyncAPI(t *testing.T) {
	text, err := openapi.AsyncAPI(info, tasks())
	require.NoError(t, err)
	doc := openapitest.AsyncAPI(t, text)
	require.Equal(t, "a/b", openapitest.At(doc, "channels", "AB", "address"))
	require.Equal(t, "a.b", openapitest.At(doc, "channels", "AB2", "address"))
	require.Equal(t, "#/components/messages/SendMail", openapitest.At(doc, "channels", "AB", "messages", "SendMail", "$ref"))
	require.Equal(t, "#/channels/results", openapitest.At(doc, "operations", "runSendMail", "reply", "channel", "$ref"))
	require.Equal(t, "receive", openapitest.At(doc, "operations", "runResults", "action"))
}

// referred returns what a reference refers to.
func referred(doc, ref any) any {
	path := strings.TrimPrefix(ref.(map[string]any)["$ref"].(string), "#/")
	return openapitest.At(doc, strings.Split(path, "/")...)
}
