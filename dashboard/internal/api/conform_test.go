package api

import (
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/openapi/openapitest"
)

// conformer holds replies to the OpenAPI document.
type conformer struct {
	mu       sync.Mutex
	doc      map[string]any
	compiler *jsonschema.Compiler
}

// conformers are those of documents, which the sites of most tests share.
var conformers sync.Map

// conformerOf returns that of a document.
func conformerOf(t *testing.T, text []byte) *conformer {
	t.Helper()
	if c, ok := conformers.Load(string(text)); ok {
		return c.(*conformer)
	}
	c := &conformer{doc: openapitest.OpenAPI(t, text), compiler: jsonschema.NewCompiler()}
	c.compiler.AssertFormat()
	require.NoError(t, c.compiler.AddResource("openapi.json", c.doc))
	conformers.Store(string(text), c)
	return c
}

// check checks that a reply is one that the document has for the operation. If there
// is no such operation, the reply has a code that says so.
func (c *conformer) check(t *testing.T, method, path string, a answer) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	path, _, _ = strings.Cut(path, "?")
	template := c.template(path)
	operation, _ := openapitest.At(c.doc, "paths", template, strings.ToLower(method)).(map[string]any)
	if operation == nil {
		require.Contains(t, []any{"not-found", "method-not-allowed", "unknown-task"}, a.json["code"], "%s %s is not in the document: %s", method, path, a.text)
		return
	}
	status := strconv.Itoa(a.StatusCode)
	response, _ := operation["responses"].(map[string]any)[status].(map[string]any)
	place := []string{"paths", template, strings.ToLower(method), "responses", status}
	if ref, ok := response["$ref"].(string); ok {
		place = strings.Split(strings.TrimPrefix(ref, "#/"), "/")
		response, _ = openapitest.At(c.doc, place...).(map[string]any)
	}
	require.NotNil(t, response, "%s %s replies with %s, which is not in the document: %s", method, template, status, a.text)
	content, _ := response["content"].(map[string]any)
	media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if content == nil {
		require.Empty(t, a.text)
		return
	}
	require.Contains(t, content, media, "%s %s: %s", method, path, a.text)
	if !strings.Contains(media, "json") {
		return
	}
	place = append(place, "content", media, "schema")
	for i, name := range place {
		place[i] = url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	}
	s, err := c.compiler.Compile("openapi.json#/" + strings.Join(place, "/"))
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(a.text))
	require.NoError(t, err)
	require.NoError(t, s.Validate(value), "%s %s: %s", method, path, a.text)
}

// template returns the path of the document that a path has, the one with the fewest
// parameters: /runs/{id} for /runs/a/b.
func (c *conformer) template(path string) string {
	found, fewest := "", -1
	for template := range c.doc["paths"].(map[string]any) {
		if n := strings.Count(template, "{"); matches(template, path) && (fewest < 0 || n < fewest) {
			found, fewest = template, n
		}
	}
	return found
}

func matches(template, path string) bool {
	t, p := strings.Split(template, "/"), strings.Split(path, "/")
	if len(p) > len(t) && strings.HasPrefix(t[len(t)-1], "{id}") {
		p = append(p[:len(t)-1:len(t)-1], strings.Join(p[len(t)-1:], "/"))
	}
	if len(t) != len(p) {
		return false
	}
	for i := range t {
		if !strings.HasPrefix(t[i], "{") && t[i] != p[i] || p[i] == "" && t[i] != "" {
			return false
		}
	}
	return true
}

// TestDocumentNamesEachOperation checks that no route is missing in the document.
func TestDocumentNamesEachOperation(t *testing.T) {
	s := newSite(t, nil, nil)
	for _, r := range routes {
		path := strings.NewReplacer("{task}", "echo", "{id...}", "{id}", "{$}", "").Replace(r.Path)
		if strings.HasPrefix(path, "/tasks/") && !r.perTask {
			path = strings.NewReplacer("{id...}", "{id}").Replace(r.Path)
		}
		require.NotNil(t, openapitest.At(s.conformer.doc, "paths", path, strings.ToLower(r.Method)), "%s %s", r.Method, path)
	}
	openapitest.AsyncAPI(t, []byte(s.want(http.StatusOK, "", "GET", "/asyncapi.json", "").text))
}

// TestDocumentsHaveTheTasksOfTheUser checks that nobody learns of tasks that the user may
// neither read nor queue.
func TestDocumentsHaveTheTasksOfTheUser(t *testing.T) {
	user := access.NewUser("shop", access.None, []access.Action{access.Queue}, []string{"echo"})
	s := newSite(t, nil, always{user})
	for _, name := range []string{"/openapi.json", "/asyncapi.json"} {
		text := s.want(http.StatusOK, "", "GET", name, "").text
		require.Contains(t, text, "EchoParams")
		require.NotContains(t, text, "SquareParams")
	}
}

// always finds one user.
type always struct{ user *access.User }

func (a always) Find(*http.Request) (*access.User, error) { return a.user, nil }
func (a always) Challenge() []string                      { return nil }
