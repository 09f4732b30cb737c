package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/markup"
)

// functions are those of all templates.
var functions = map[string]any{
	"link": link, "when": when, "span": span, "num": number, "brief": brief, "shown": shown, "bytes": bytesText,
	"pretty": pretty, "plural": plural, "rate": ratePerMinute, "join": strings.Join, "ref": newRef,
	"ended": broker.State.Ended,
	"add":   func(a, b int) int { return a + b },
	"list":  func(all ...string) []string { return all },
}

// pageTemplate is the layout with the content of one page.
type pageTemplate struct{ layout executor }

// executor writes what a template makes of data.
type executor interface {
	Execute(out io.Writer, data any) error
}

func newPageTemplate(name string) (*pageTemplate, error) {
	t, err := markup.Parse(files, functions, "templates/layout.html", "templates/parts.html", "templates/"+name+".html")
	if err != nil {
		return nil, fmt.Errorf("read the template of page %s: %w", name, err)
	}
	return &pageTemplate{t}, nil
}

func (t *pageTemplate) execute(out io.Writer, l *layout) error {
	if err := t.layout.Execute(out, l); err != nil {
		return statusError{http.StatusInternalServerError, fmt.Errorf("show page %s: %w", l.Title, err)}
	}
	return nil
}

// runRef is a link to a run.
type runRef struct{ ID, Queue, Short string }

// newRef returns a link to a run. The end of an id tells it from others, as the beginning is
// the time.
func newRef(id, queue string) runRef {
	short := id
	if len(short) > 14 {
		short = "…" + short[len(short)-12:]
	}
	return runRef{id, queue, short}
}

func indent(b []byte) (string, error) {
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return "", err
	}
	return out.String(), nil
}

// asset is a file that pages refer to.
type asset struct {
	body []byte
	kind string
	tag  string
}

// readAssets returns the files below assets, by their names.
func readAssets() (map[string]asset, error) {
	entries, err := files.ReadDir("assets")
	if err != nil {
		return nil, err
	}
	all := make(map[string]asset)
	for _, e := range entries {
		body, err := files.ReadFile(path.Join("assets", e.Name()))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(body)
		all[e.Name()] = asset{body, mime.TypeByExtension(path.Ext(e.Name())), `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	return all, nil
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache") // ask each time: the tag is that of the program
	h.Set("ETag", a.tag)
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body) // who asked is gone
	}
}
