package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	shop "github.com/taskgen/taskgen/examples/shop/tasks"
)

// TestDocumentedCalls runs the commands of docs/http-api.md, and compares what they print with
// the JSON behind them: "…" stands for any text, and there may be more fields.
func TestDocumentedCalls(t *testing.T) {
	text, err := os.ReadFile("../../../docs/http-api.md")
	require.NoError(t, err)
	api := serve(t, shop.Tasks())
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n```json\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, blocks)
	require.Len(t, blocks, strings.Count(string(text), "```sh"), "a command without JSON behind it")
	for _, b := range blocks {
		// The token of the server is in no example.
		command := strings.ReplaceAll(b[1], "curl -s ", `curl -s -H "Authorization: Bearer $TOKEN" `)
		printed := run(t, t.TempDir(), api, "sh", "-c", command)
		var got, want any
		require.NoError(t, json.Unmarshal([]byte(printed), &got), "%s\n%s", b[1], printed)
		require.NoError(t, json.Unmarshal([]byte(b[2]), &want), b[2])
		require.Empty(t, differs("", got, want), "%s\n%s", b[1], printed)
	}
}

// TestDocumentedPython runs the Python of docs/http-api.md.
func TestDocumentedPython(t *testing.T) {
	text, err := os.ReadFile("../../../docs/http-api.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s) *```python\n(.*?) *```").FindAllStringSubmatch(string(text), -1)
	require.Len(t, blocks, 1)
	program := regexp.MustCompile("(?m)^  ").ReplaceAllString(blocks[0][1], "") // it stands in a list
	require.Equal(t, "750\n", run(t, t.TempDir(), serve(t, shop.Tasks()), "python3", "-c", program))
}

// TestEachOperationIsDocumented checks that docs/http-api.md has all operations of the API, and
// no others.
func TestEachOperationIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/http-api.md")
	require.NoError(t, err)
	raw, err := os.ReadFile(document(t, serve(t, shop.Tasks()), t.TempDir()))
	require.NoError(t, err)
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(raw, &doc))
	var served, documented []string
	for path, operations := range doc.Paths {
		if strings.HasPrefix(path, "/tasks/") && !strings.Contains(path, "{task}") {
			continue // of one task
		}
		for method := range operations {
			served = append(served, strings.ToUpper(method)+" "+path)
		}
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, found := range regexp.MustCompile("`((?:GET|POST|PUT|DELETE) /[^`]*)`").FindAllStringSubmatch(line, -1) {
			documented = append(documented, found[1])
		}
	}
	require.ElementsMatch(t, served, documented)
}

// differs returns where got lacks what is wanted.
func differs(at string, got, want any) string {
	switch want := want.(type) {
	case string:
		if text, ok := got.(string); ok && (want == "…" || text == want) {
			return ""
		}
	case map[string]any:
		fields, _ := got.(map[string]any)
		for name, value := range want {
			if d := differs(at+"/"+name, fields[name], value); d != "" {
				return d
			}
		}
		return ""
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) {
			break
		}
		for i := range want {
			if d := differs(fmt.Sprintf("%s/%d", at, i), list[i], want[i]); d != "" {
				return d
			}
		}
		return ""
	default:
		if got == want {
			return ""
		}
	}
	return fmt.Sprintf("%s: got %v, want %v", at, got, want)
}
