// Package openapi describes tasks, and the HTTP API that queues them, for programs in other
// languages: as OpenAPI 3.1, with one operation a task, and as AsyncAPI 3.0.
//
// Parameters and results have the forms of package jsonform. The documents are the same
// bytes for the same tasks.
package openapi

// Task is a task as the documents describe it: some fields of its taskrt.Spec.
type Task struct {
	Name    string
	Doc     string
	Kind    string // io or cpu
	Queue   string
	Tags    []string
	Params  string // the wire form
	Result  string // the wire form; empty without a result
	Secrets []string
}

// Info is about a document as a whole.
type Info struct {
	Title       string
	Version     string
	Description string
}

// Operation is a route of the HTTP API.
type Operation struct {
	Method string
	Path   string // below the server, such as /runs/{id}

	// ID is the operationId, such as listRuns. If PerTask is set, {Task} in it stands for the
	// task's name, as in queue{Task}Batch.
	ID      string
	Summary string // one line; {task} in it stands for the task's name if PerTask is set
	Tag     string // groups operations; those of a task have the task's tags instead, if it has any
	PerTask bool   // the operation is written once a task, with the name instead of {task} in Path
	Action  string // the permission that it needs, or empty

	Query  []Param
	Header []Param

	// Body is a value of the Go type of the JSON body, nil if there is none. [Params] and
	// [Result] in it stand for those of the task.
	Body     any
	Replies  []Reply
	Problems []string // codes
}

// Param is a parameter of the query, or a header. It may be left out.
type Param struct {
	Name, Doc string
	Value     any      // a value of its Go type
	Repeat    bool     // it may occur several times
	Enum      []string // its values, if it has no others
}

// Reply is what an operation replies with if it has no problem.
type Reply struct {
	Status int
	Doc    string
	Value  any    // a value of the Go type of the JSON body, as in Operation.Body; nil: none
	Type   string // of the content; defaults to application/json
}

// Problem is a code of errors, which are application/problem+json (RFC 9457).
type Problem struct {
	Code   string
	Status int
	Name   string // of the status, as by http.StatusText: package net/http would double the start of taskgen
	Doc    string
}

// Params stands for the parameters of a task in the Go types of a body.
type Params struct{}

// Result stands for the result of a task in the Go types of a body.
type Result struct{}
