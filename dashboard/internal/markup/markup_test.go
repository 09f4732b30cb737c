package markup

import (
	"bytes"
	"errors"
	"html/template"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parseText parses a template.
func parseText(text string, funcs map[string]any) (*Template, error) {
	return Parse(fstest.MapFS{"a.html": {Data: []byte(text)}}, funcs, "a.html")
}

// both executes a template by this package and by html/template.
func both(t *testing.T, text string, data any, funcs map[string]any) (own, other string, err, otherErr error) {
	t.Helper()
	own1, err := parseText(text, funcs)
	require.NoError(t, err, text)
	var a, b bytes.Buffer
	err = own1.Execute(&a, data)
	other1, otherErr := template.New("a.html").Funcs(funcs).Option("missingkey=error").Parse(text)
	require.NoError(t, otherErr, text)
	otherErr = other1.Execute(&b, data)
	return a.String(), b.String(), err, otherErr
}

// view is data of templates.
type view struct {
	inner
	Text, Empty string
	N           int
	U           uint8
	F           float64
	Yes, No     bool
	List        []string
	Rows        []inner
	Map         map[string]int
	Next        *view
	Nil         *view
	At          time.Time
	Err         error
	Any, None   any
	Kind        kind
	Took        time.Duration
	Array       [2]int
}

type inner struct{ Name, Href string }

type kind string

var sample = view{
	inner: inner{`n"a'm<e>&+`, "run?id=a%20b&x=<1>"}, Text: "<b>&amp;\x00'\"`</title>", N: 3, U: 4, F: 1.5, Yes: true, List: []string{"a", "<b>", "c"},
	Rows: []inner{{"x", "javascript:alert(1)"}, {"y", "./"}}, Map: map[string]int{"b": 2, "a": 1}, Next: &view{Text: "next"}, At: time.Unix(0, 0).UTC(),
	Err: errors.New("no <way>"), Any: inner{"any", ""}, Kind: "cpu", Took: time.Second, Array: [2]int{5, 6},
}

func funcsOfTests() map[string]any {
	return map[string]any{
		"join": strings.Join, "add": func(a, b int) int { return a + b }, "fail": func(s string) (string, error) { return "", errors.New(s) },
		"list": func(all ...string) []string { return all }, "float": func(f float64) float64 { return f },
		"kindOf": func(k kind) string { return string(k) }, "deref": func(v view) string { return v.Text }, "anyOf": func(v any) any { return v },
	}
}

// TestTemplatesMeanWhatTheyDoToHTMLTemplate has a template for each thing of the language.
func TestTemplatesMeanWhatTheyDoToHTMLTemplate(t *testing.T) {
	for _, text := range []string{
		"plain", "{{.Text}}", "{{.Name}}", "{{.N}} {{.U}} {{.F}} {{.Yes}} {{.Kind}} {{.Took}} {{.At}} {{.Err}} {{.List}} {{.Array}} {{.Map}}", "{{.Next.Text}}", "{{.Any.Name}}",
		"<a title='{{.Text}}' class=\"a {{.Name}}\">{{.Text}}</a>", `<a href="{{.Href}}">`, `<a href="{{.Text}}">`, `<a href="run?id={{.Text}}&amp;q={{.Name}}">`, `<img src='{{.Href}}'>`,
		"{{range .Rows}}<a href=\"{{.Href}}\">{{.Name}}</a>{{end}}", "<title>{{.Text}}</title><textarea name=x>{{.Text}}</textarea>", "<input value=\"{{.Text}}\" checked>", `<a data-url="{{.Href}}" xlink:href="{{.Text}}">`,
		"{{if .Yes}}yes{{else}}no{{end}}", "{{if .No}}yes{{else if .N}}n{{end}}", "{{if .Nil}}nil{{end}}{{if .None}}none{{end}}{{if .Empty}}e{{end}}{{if .Rows}}r{{end}}{{if .Any}}any{{end}}{{if .At}}at{{end}}",
		"{{with .Next}}{{.Text}} {{$.Text}}{{else}}none{{end}}", "{{with .Nil}}x{{else}}none{{end}}", "{{with $x := .Next}}{{$x.Text}}{{end}}", "{{with .Nil}}a{{else with .Next}}{{.Text}}{{end}}",
		"{{range .List}}{{.}},{{else}}none{{end}}", "{{range $i, $s := .List}}{{if $i}}, {{end}}{{$s}}{{end}}", "{{range $s := .List}}{{$s}}{{end}}", "{{range $k, $v := .Map}}{{$k}}={{$v}} {{end}}",
		"{{range .Empty}}{{else}}none{{end}}", "{{range .N}}{{.}}{{end}}", "{{range .List}}{{if eq . \"c\"}}{{break}}{{end}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}", "{{range .Array}}{{.}}{{end}}",
		"{{$x := 1}}{{if .Yes}}{{$x = 2}}{{end}}{{$x}}", "{{$x := 1}}{{if .Yes}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "{{range .List}}{{$x := .}}{{$x}}{{end}}",
		"{{eq .N 3}} {{eq .Kind \"cpu\"}} {{ne .N 3}} {{eq .Text \"a\" .Text}} {{lt .N 4}} {{le .N 3}} {{gt .F 1.0}} {{ge .U 4}} {{eq .Yes true}} {{lt \"a\" \"b\"}} {{eq .U 4}}",
		"{{and .Yes .No}} {{or .No .Text}}", "{{and .Yes .N .Text}}", "{{or .Nil .Empty \"x\"}}", "{{not .Yes}} {{not .Nil}}", "{{if and .Nil .Nil.Text}}{{end}}ok",
		"{{len .List}} {{len .Text}} {{len .Map}}", "{{index .List 1}} {{index .Map \"a\"}} {{index .Map \"none\"}} {{index .Array 1}}", "{{(index .Rows 1).Name}}", "{{print .N \"a\" .Kind}} {{printf \"%05d|%s\" .N .Name}}",
		"{{join .List \", \"}} {{.List | len | printf \"%d\"}} {{add 1 (add .N 2)}} {{join (list \"a\" .Name) \"-\"}} {{list}} {{float 1}} {{kindOf .Kind}} {{kindOf \"io\"}} {{deref .Next}} {{anyOf .None}} {{anyOf .Any}}",
		"{{define \"t\"}}[{{.}} {{with $}}{{.}}{{end}}]{{end}}{{template \"t\" .Name}}{{range .List}}{{template \"t\" .}}{{end}}", "{{define \"deep\"}}{{.Text}}{{with .Next}}{{template \"deep\" .}}{{end}}{{end}}{{template \"deep\" .}}",
		"{{define \"v\"}}{{.Name}}{{end}}<a title=\"{{template \"v\" .}}\">{{template \"v\" .}}</a>", "{{block \"b\" .Name}}({{.}}){{end}}", "a {{- .N -}} b {{/* comment */}} c", "{{\"<lit>\"}} {{true}} {{1.5}} {{`raw`}}",
		"<td{{if .Yes}} class=\"x\"{{end}}>{{.N}}</td>", "<option value=\"{{.N}}\"{{if .Yes}} selected{{end}}{{if .No}} disabled{{end}}>", "<a {{range .List}}data-a=\"{{.}}\" {{end}}x>", "<a class=\"{{with .Text}}{{.}}{{end}}\" href=\"{{if .Yes}}{{.Href}}{{else}}./{{end}}\">",
		"<script src=\"a.js\"></script><style>a{}</style>{{.N}}", "<!doctype html><p>{{.N}}", "<br/>{{.N}}<svg viewBox=\"0 0 {{.N}} 1\"/>", "1 &lt; 2 {{.N}}", "{{.At.IsZero}}",
		"<a href=\"\n{{.Href}}\">", "{{fail \"x\"}}", "{{.Nil.Text}}", "{{.Map.none}}", "{{index .List 9}}", "{{add .Text 1}}", "{{.None.X}}", "{{.Missing}}", "{{.Text.X}}", "{{range .Yes}}{{end}}", "{{lt .N .Text}}", "{{len .N}}",
	} {
		own, other, err, otherErr := both(t, text, &sample, funcsOfTests())
		assert.Equal(t, otherErr != nil, err != nil, "%s: %v, html/template: %v", text, err, otherErr)
		if err == nil {
			assert.Equal(t, other, own, text)
		} else {
			require.Empty(t, own, text)
		}
	}
}

// TestValuesStandWhereTheyAreSafe: other templates are refused.
func TestValuesStandWhereTheyAreSafe(t *testing.T) {
	for text, want := range map[string]string{
		"<a {{.Name}}>":                                 "in a tag",
		"<a {{.Name}}=\"x\">":                           "in a tag",
		"<{{.Name}}>":                                   "stands",
		"<a title={{.Name}}>":                           "in a tag",
		"<a title=x{{.Name}}>":                          "in a tag",
		"<a onclick=\"{{.Name}}\">":                     "attribute onclick",
		"<a ONCLICK='{{.Name}}'>":                       "attribute onclick",
		"<a style=\"color: {{.Name}}\">":                "attribute style",
		"<iframe srcdoc=\"{{.Name}}\">":                 "attribute srcdoc",
		"<img srcset=\"{{.Name}}\">":                    "attribute srcset",
		"<script>{{.Name}}</script>":                    "element script",
		"<script>'</scr' + {{.Name}}</script>":          "element script",
		"<style>{{.Name}}</style>":                      "element style",
		"<a href=\"run/{{.Name}}\">":                    "middle of the address",
		"<a href=\"{{.Href}}{{.Name}}\">":               "middle of the address",
		"<a href=\"java{{.Name}}\">":                    "middle of the address",
		"<!-- {{.Name}} -->":                            "in a tag",
		"<a title=\"{{if .Yes}}\">{{end}}":              "branch",
		"{{if .Yes}}<a{{else}}<b{{end}}>":               "branch",
		"<a {{if .Yes}}x{{end}}y=\"{{.N}}\">":           "write a space",
		"{{range .List}}<a title=\"{{end}}":             "branch",
		"{{range .List}}<a {{break}}>{{end}}":           "branch",
		"a < b":                                         "write &lt;",
		"<a title=\"":                                   "ends within a tag",
		"<script>":                                      "ends within a tag",
		"{{template \"none\"}}":                         "no template is named",
		"{{define \"t\"}}<a {{end}}{{template \"t\"}}>": "ends in another place",
		"{{define \"t\"}}{{.}}{{end}}<script>{{template \"t\" .Name}}</script>": "element script",
		"{{html .Name}}": "not defined",
		"{{if}}":         "missing value",
	} {
		_, err := parseText(text, nil)
		require.ErrorContains(t, err, want, text)
	}
}

// TestPlacesAreCheckedAgain executes a template that Parse did not check.
func TestPlacesAreCheckedAgain(t *testing.T) {
	ok, err := parseText("<p>{{.}}", nil)
	require.NoError(t, err)
	var out bytes.Buffer
	s := &state{template: ok, at: place{where: inTag, tag: "a"}}
	require.ErrorContains(t, s.node(ok.trees[ok.name].Root.Nodes[1], reflect.ValueOf("x")), "in a tag")
	require.NoError(t, ok.Execute(&out, "x"))
}

func TestFunctionsOfAValue(t *testing.T) {
	own, err := parseText("{{.Twice 2}} {{$.Sum 1 (.Twice 3)}} {{.Nothing}}", nil)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, own.Execute(&out, caller{}))
	require.Equal(t, "4 7 none", out.String())
}

type caller struct{}

func (caller) Function(name string) any {
	return map[string]any{"Twice": func(n int) int { return 2 * n }, "Sum": func(a, b int) int { return a + b }, "Nothing": func() string { return "none" }}[name]
}

func TestEndlessCallsEnd(t *testing.T) {
	own, err := parseText("{{define \"t\"}}{{template \"t\" .}}{{end}}{{template \"t\" .}}", nil)
	require.NoError(t, err)
	require.ErrorContains(t, own.Execute(new(bytes.Buffer), 1), "deep")
	own, err = parseText("{{panics}}", map[string]any{"panics": func() string { panic("told to") }})
	require.NoError(t, err)
	require.ErrorContains(t, own.Execute(new(bytes.Buffer), 1), "told to")
}

// FuzzEscaping compares what becomes of hostile text with html/template.
func FuzzEscaping(f *testing.F) {
	for _, text := range []string{
		"<script>alert(1)</script>", "\" onload=x y=\"", "' onload=x", "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:1", "data:text/html,x", "//evil.example", "?a=b:c", "./x:y", "mailto:a@b",
		"http://a/b?c=d&e=<f>#g", "%zz%41", "\xff\xfe", "\x00", "</title>", "</textarea>", "ſcript", "&#x3c;", "{{.}}", "a+b", "é漢😀", ":", "vbscript:x", "a/b:c", "%6Aavascript:x",
	} {
		f.Add(text)
	}
	const text = `<title>{{.}}</title><p title="{{.}}" class='{{.}}'>{{.}}<a href="{{.}}">{{.}}</a><a href='run?x={{.}}&amp;y={{.}}'></a><form action="{{.}}"><textarea>{{.}}</textarea><input value="{{.}}" data-url="{{.}}">`
	own, err := parseText(text, nil)
	require.NoError(f, err)
	other := template.Must(template.New("a").Parse(text))
	f.Fuzz(func(t *testing.T, s string) {
		var a, b bytes.Buffer
		require.NoError(t, own.Execute(&a, s))
		require.NoError(t, other.Execute(&b, s))
		require.Equal(t, b.String(), a.String())
	})
}
