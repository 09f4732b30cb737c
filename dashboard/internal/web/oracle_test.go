package web

import (
	"bytes"
	"html/template"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// oracle executes a template by package markup, and by html/template, which has to make the
// same of it.
type oracle struct {
	t     *testing.T
	own   executor
	other *template.Template
}

// compareTemplates has all pages of a site made by both from now on.
func compareTemplates(t *testing.T, h http.Handler) {
	t.Helper()
	s := h.(*site)
	for name, p := range s.pages {
		file := name
		if name == "" {
			file = "overview"
		}
		other, err := template.New("layout.html").Funcs(functions).Option("missingkey=error").
			ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/"+file+".html")
		require.NoError(t, err)
		p.template.layout = &oracle{t, p.template.layout, other}
	}
}

func (o *oracle) Execute(out io.Writer, data any) error {
	var own, other bytes.Buffer
	var err, otherErr error
	for range 20 { // pages show ages, which grow between the two
		own.Reset()
		other.Reset()
		err, otherErr = o.own.Execute(&own, data), o.other.Execute(&other, data)
		if (err != nil) == (otherErr != nil) && (err != nil || own.String() == other.String()) {
			break
		}
	}
	if (err != nil) != (otherErr != nil) {
		o.t.Errorf("%s: package markup has the error %v, html/template %v", o.other.Name(), err, otherErr)
	}
	if err == nil && own.String() != other.String() {
		at := 0
		for at < min(own.Len(), other.Len()) && own.Bytes()[at] == other.Bytes()[at] {
			at++
		}
		from := max(0, at-100)
		o.t.Errorf("package markup makes\n%.300s\nand html/template\n%.300s", own.String()[from:], other.String()[from:])
	}
	_, _ = out.Write(own.Bytes())
	return err
}
