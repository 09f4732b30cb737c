package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/internal/ordered"
	"github.com/taskgen/taskgen/internal/schema"
)

// Document returns the OpenAPI 3.1 document of the HTTP API, indented. Its server is the
// folder in which it lies.
func Document(info Info, tasks []Task, ops []Operation, problems []Problem) ([]byte, error) {
	w := &writer{
		components: components{names: names{}, known: map[known]string{}},
		ids:        names{}, paths: map[string]*ordered.Object{}, problems: problems,
		replies: newShared("responses"), params: newShared("parameters"),
	}
	w.addProblem()
	for _, op := range ops {
		if op.PerTask {
			continue
		}
		if err := w.operation(op, nil, Task{}); err != nil {
			return nil, err
		}
	}
	for _, t := range tasks {
		refs, err := w.task(t)
		if err != nil {
			return nil, err
		}
		for _, op := range ops {
			if !op.PerTask {
				continue
			}
			if err := w.operation(op.of(t, refs), refs, t); err != nil {
				return nil, err
			}
		}
	}
	return w.document(info)
}

// of returns the operation for one task.
func (op Operation) of(t Task, refs *taskRefs) Operation {
	op.Path = strings.ReplaceAll(op.Path, "{task}", url.PathEscape(t.Name))
	op.ID = strings.ReplaceAll(op.ID, "{Task}", refs.name)
	op.Summary = strings.ReplaceAll(op.Summary, "{task}", t.Name)
	return op
}

// writer collects the parts of a document.
type writer struct {
	components
	ids      names
	order    []string // of paths
	paths    map[string]*ordered.Object
	tags     ordered.Object // their names
	problems []Problem
	replies  shared // with problems
	params   shared
}

// shared are objects to which many places refer, so that each is written once.
type shared struct {
	kind    string // the folder of components
	objects ordered.Object
	names   names
	known   map[string]string // by their JSON
}

func newShared(kind string) shared {
	return shared{kind: kind, objects: ordered.Object{}, names: names{}, known: map[string]string{}}
}

// ref returns a reference to an object, which is added under a name like the given one.
func (s *shared) ref(name string, o ordered.Object) (ordered.Object, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	known, ok := s.known[string(text)]
	if !ok {
		known = s.names.unused(camel(name))
		s.known[string(text)] = known
		s.objects.Add(known, o)
	}
	return ordered.Object{{"$ref", "#/components/" + s.kind + "/" + known}}, nil
}

func (w *writer) document(info Info) ([]byte, error) {
	paths, tags := ordered.Object{}, []ordered.Object{}
	for _, path := range w.order {
		paths.Add(path, *w.paths[path])
	}
	for _, tag := range w.tags {
		tags = append(tags, ordered.Object{{"name", tag[0]}})
	}
	doc := ordered.Object{
		{"openapi", "3.1.0"},
		{"info", infoOf(info)},
		{"servers", []ordered.Object{{{"url", "../v1"}, {"description", "the folder of this document"}}}},
		{"security", []ordered.Object{{}, {{"basic", []string{}}}, {{"bearer", []string{}}}}},
		{"tags", tags},
		{"paths", paths},
		{"components", ordered.Object{
			{"schemas", w.schemas},
			{"responses", w.replies.objects},
			{"parameters", w.params.objects},
			{"securitySchemes", ordered.Object{
				{"basic", ordered.Object{{"type", "http"}, {"scheme", "basic"}}},
				{"bearer", ordered.Object{{"type", "http"}, {"scheme", "bearer"}}},
			}},
		}},
	}
	return indented(doc)
}

func infoOf(i Info) ordered.Object {
	o := ordered.Object{{"title", i.Title}, {"version", i.Version}}
	if i.Description != "" {
		o.Add("description", i.Description)
	}
	return o
}

func indented(doc ordered.Object) ([]byte, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write document: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, fmt.Errorf("indent document: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// task adds the schemas of a task.
func (w *writer) task(t Task) (*taskRefs, error) {
	fields, err := schema.ParseParams(t.Params)
	if err != nil {
		return nil, fmt.Errorf("read parameters of task %s: %w", t.Name, err)
	}
	refs := &taskRefs{name: w.ids.unused(camel(t.Name))}
	refs.params = w.addType(refs.name+"Params", &schema.Type{Kind: schema.Struct, Fields: fields}, false)
	refs.result = ordered.Object{{"type", "null"}}
	if t.Result != "" {
		result, err := schema.Parse(t.Result)
		if err != nil {
			return nil, fmt.Errorf("read result of task %s: %w", t.Name, err)
		}
		refs.result = w.addType(refs.name+"Result", result, true)
	}
	return refs, nil
}

// addType adds the schema of a wire form, and of the types in it, and returns a reference
// to it.
func (c *components) addType(name string, t *schema.Type, written bool) ordered.Object {
	name = c.names.unused(name)
	inner := map[string]string{} // the names of the types in it
	shape, defs := t.Describe(written, func(def string) string {
		if inner[def] == "" {
			inner[def] = c.names.unused(name + camel(def))
		}
		return refPrefix + inner[def]
	})
	c.schemas.Add(name, shape)
	for _, m := range defs {
		c.schemas.Add(inner[m[0].(string)], m[1])
	}
	return c.ref(name)
}

// inPath matches the parameters of a path.
var inPath = regexp.MustCompile(`\{([a-z]+)\}`)

// operation adds an operation, of a task if refs is not nil.
func (w *writer) operation(op Operation, refs *taskRefs, t Task) error {
	o := ordered.Object{{"operationId", w.ids.unused(op.ID)}, {"summary", op.Summary}}
	if text := describe(op, t); text != "" {
		o.Add("description", text)
	}
	tags := t.Tags
	if len(tags) == 0 && op.Tag != "" {
		tags = []string{op.Tag}
	}
	if len(tags) > 0 {
		o.Add("tags", tags)
		for _, tag := range tags {
			if w.tags.Get(tag) == nil {
				w.tags.Add(tag, true)
			}
		}
	}
	params, err := w.parameters(op)
	if err != nil {
		return err
	}
	if len(params) > 0 {
		o.Add("parameters", params)
	}
	if op.Body != nil {
		o.Add("requestBody", ordered.Object{{"required", true}, {"content", w.content("application/json", op.Body, refs)}})
	}
	responses, err := w.responses(op, refs)
	if err != nil {
		return err
	}
	o.Add("responses", responses)
	path := w.paths[op.Path]
	if path == nil {
		path = &ordered.Object{}
		w.paths[op.Path] = path
		w.order = append(w.order, op.Path)
	}
	path.Add(strings.ToLower(op.Method), o)
	return nil
}

func describe(op Operation, t Task) string {
	var parts []string
	if t.Doc != "" {
		parts = append(parts, t.Doc)
	}
	if len(t.Secrets) > 0 {
		parts = append(parts, "Never shown again: "+strings.Join(t.Secrets, ", ")+".")
	}
	if op.Action != "" {
		parts = append(parts, "Needs the permission "+op.Action+".")
	}
	return strings.Join(parts, "\n\n")
}

func (w *writer) parameters(op Operation) (list []ordered.Object, err error) {
	for _, found := range inPath.FindAllStringSubmatch(op.Path, -1) {
		list = append(list, ordered.Object{{"name", found[1]}, {"in", "path"}, {"required", true}, {"schema", ordered.Object{{"type", "string"}}}})
	}
	for _, group := range []struct {
		in   string
		list []Param
	}{{"query", op.Query}, {"header", op.Header}} {
		for _, p := range group.list {
			o := ordered.Object{{"name", p.Name}, {"in", group.in}, {"description", p.Doc}, {"schema", w.param(p)}}
			if o, err = w.params.ref(p.Name, o); err != nil {
				return nil, err
			}
			list = append(list, o)
		}
	}
	return list, nil
}

// param returns the schema of a parameter.
func (w *writer) param(p Param) ordered.Object {
	var one ordered.Object
	switch typ := reflect.TypeOf(p.Value); {
	case typ == nil:
		one = ordered.Object{{"type", "string"}}
	case typ == durationFor:
		one, _ = (&schema.Type{Kind: schema.Scalar, Name: "duration"}).Describe(true, nil)
	default:
		one = w.schema(typ, nil)
	}
	if len(p.Enum) > 0 {
		one.Add("enum", p.Enum)
	}
	if p.Repeat {
		return ordered.Object{{"type", "array"}, {"items", one}}
	}
	return one
}

func (w *writer) content(media string, value any, refs *taskRefs) ordered.Object {
	return ordered.Object{{media, ordered.Object{{"schema", w.schema(reflect.TypeOf(value), refs)}}}}
}

func (w *writer) responses(op Operation, refs *taskRefs) (ordered.Object, error) {
	all := ordered.Object{}
	for _, r := range op.Replies {
		o := ordered.Object{{"description", r.Doc}}
		media := r.Type
		if media == "" {
			media = "application/json"
		}
		switch {
		case r.Value != nil:
			o.Add("content", w.content(media, r.Value, refs))
		case r.Type != "":
			o.Add("content", ordered.Object{{media, ordered.Object{}}})
		}
		all.Add(strconv.Itoa(r.Status), o)
	}
	byStatus := map[int][]Problem{}
	for _, code := range op.Problems {
		i := slices.IndexFunc(w.problems, func(p Problem) bool { return p.Code == code })
		if i < 0 {
			return nil, fmt.Errorf("describe operation %s: there is no problem %q", op.ID, code)
		}
		byStatus[w.problems[i].Status] = append(byStatus[w.problems[i].Status], w.problems[i])
	}
	statuses := make([]int, 0, len(byStatus))
	for status := range byStatus {
		statuses = append(statuses, status)
	}
	slices.Sort(statuses)
	for _, status := range statuses {
		o, err := w.replies.ref(byStatus[status][0].Name, problemReply(status, byStatus[status]))
		if err != nil {
			return nil, err
		}
		all.Add(strconv.Itoa(status), o)
	}
	return all, nil
}

// Statuses whose replies say when to try again.
const (
	tooManyRequests    = 429
	serviceUnavailable = 503
)

// problemReply returns the response with one of some problems.
func problemReply(status int, problems []Problem) ordered.Object {
	var codes, docs []string
	for _, p := range problems {
		codes = append(codes, p.Code)
		docs = append(docs, p.Code+": "+p.Doc)
	}
	o := ordered.Object{{"description", strings.Join(docs, "; ")}}
	if status == tooManyRequests || status == serviceUnavailable {
		o.Add("headers", ordered.Object{{"Retry-After", ordered.Object{
			{"description", "seconds after which to try again"}, {"schema", ordered.Object{{"type", "integer"}}},
		}}})
	}
	o.Add("content", ordered.Object{{"application/problem+json", ordered.Object{{"schema", ordered.Object{{"allOf", []ordered.Object{
		{{"$ref", refPrefix + "Problem"}},
		{{"type", "object"}, {"properties", ordered.Object{{"code", ordered.Object{{"type", "string"}, {"enum", codes}}}}}},
	}}}}}}})
	return o
}

// addProblem adds the schema of problems.
func (w *writer) addProblem() {
	var codes []string
	for _, p := range w.problems {
		codes = append(codes, p.Code)
	}
	text := func(doc string) ordered.Object { return ordered.Object{{"type", "string"}, {"description", doc}} }
	place := ordered.Object{
		{"type", "object"},
		{"properties", ordered.Object{
			{"pointer", text("the place in the body as a JSON Pointer (RFC 6901)")},
			{"detail", text("what was expected there, and what was found")},
		}},
		{"required", []string{"pointer", "detail"}},
	}
	w.schemas.Add(w.names.unused("Problem"), ordered.Object{
		{"type", "object"},
		{"description", "an error (RFC 9457)"},
		{"properties", ordered.Object{
			{"type", text("a reference; about:blank if code says it all")},
			{"title", text("the status in words")},
			{"status", ordered.Object{{"type", "integer"}}},
			{"detail", text("what went wrong here")},
			{"code", ordered.Object{{"type", "string"}, {"enum", codes}, {"description", "what clients decide by"}}},
			{"errors", ordered.Object{{"type", "array"}, {"items", place}}},
			{"id", text("the run that this is about")},
			{"queue", text("its queue")},
		}},
		{"required", []string{"status", "detail", "code"}},
	})
}
