// Package openapitest validates OpenAPI and AsyncAPI documents by the published meta-schemas,
// for tests.
package openapitest

import (
	"bytes"
	"embed"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

//go:embed oas31/*.yaml asyncapi-3.0.0.json
var files embed.FS

// OpenAPI returns an OpenAPI 3.1 document, once it is valid, its schemas are, and each
// reference in it leads somewhere.
func OpenAPI(t testing.TB, text []byte) (doc map[string]any) {
	t.Helper()
	c := jsonschema.NewCompiler()
	for _, name := range []string{"schema", "schema-base", "dialect", "meta"} {
		raw, err := files.ReadFile("oas31/" + name + ".yaml")
		require.NoError(t, err)
		var meta map[string]any
		require.NoError(t, yaml.Unmarshal(raw, &meta))
		asJSON, err := json.Marshal(meta)
		require.NoError(t, err)
		require.NoError(t, c.AddResource(meta["$id"].(string), unmarshal(t, asJSON)))
	}
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "https://spec.openapis.org/oas/3.1/vocab/base"})
	doc = valid(t, c, "https://spec.openapis.org/oas/3.1/schema/WORK-IN-PROGRESS", text)
	dialect, err := jsonschema.NewCompiler().Compile("https://json-schema.org/draft/2020-12/schema")
	require.NoError(t, err)
	schemas, _ := At(doc, "components", "schemas").(map[string]any)
	for name, s := range schemas {
		require.NoError(t, dialect.Validate(s), name)
	}
	return doc
}

// AsyncAPI is OpenAPI for an AsyncAPI 3.0 document.
func AsyncAPI(t testing.TB, text []byte) (doc map[string]any) {
	t.Helper()
	raw, err := files.ReadFile("asyncapi-3.0.0.json")
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("asyncapi.json", unmarshal(t, raw)))
	return valid(t, c, "asyncapi.json", text)
}

// valid checks a document by a meta-schema, and that the meta-schema can refuse.
func valid(t testing.TB, c *jsonschema.Compiler, meta string, text []byte) map[string]any {
	t.Helper()
	s, err := c.Compile(meta)
	require.NoError(t, err)
	doc := unmarshal(t, text)
	require.NoError(t, s.Validate(doc))
	broken := unmarshal(t, bytes.Replace(text, []byte(`"info":`), []byte(`"information":`), 1))
	require.Error(t, s.Validate(broken))
	refer(t, doc, doc)
	return doc.(map[string]any)
}

func unmarshal(t testing.TB, text []byte) any {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return doc
}

// At returns a value within a document, nil if there is none.
func At(doc any, path ...string) any {
	for _, name := range path {
		inner, _ := doc.(map[string]any)
		doc = inner[name]
	}
	return doc
}

// refer checks that each reference in a value leads to a place in the document.
func refer(t testing.TB, doc, value any) {
	t.Helper()
	switch value := value.(type) {
	case map[string]any:
		if ref, ok := value["$ref"].(string); ok {
			require.NotNil(t, At(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...), ref)
		}
		for _, inner := range value {
			refer(t, doc, inner)
		}
	case []any:
		for _, inner := range value {
			refer(t, doc, inner)
		}
	}
}
