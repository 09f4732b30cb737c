package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"text/template"
	"time"
)

// machine describes where and with what a measurement was made.
type machine struct {
	Cores                             int
	System, Go, Redis, Asynq, GoRedis string
	Rounds                            int
	Length                            time.Duration
	Drain                             string
	AsynqCheck                        time.Duration
}

func describeMachine(ctx context.Context, e *environment) (machine, error) {
	m := machine{
		Cores:      runtime.NumCPU(),
		System:     runtime.GOOS + "/" + runtime.GOARCH,
		Go:         strings.TrimPrefix(runtime.Version(), "go"),
		Rounds:     e.rounds,
		Length:     e.length,
		Drain:      thousands(e.drain),
		AsynqCheck: asynqCheck,
	}
	var err error
	if m.Redis, err = e.server.version(ctx); err != nil {
		return m, err
	}
	err = m.readVersions()
	return m, err
}

// readVersions sets the versions of the other libraries.
func (m *machine) readVersions() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("read the versions of the modules: this binary has no build information")
	}
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/hibiken/asynq":
			m.Asynq = strings.TrimPrefix(dep.Version, "v")
		case "github.com/redis/go-redis/v9":
			m.GoRedis = strings.TrimPrefix(dep.Version, "v")
		}
	}
	return nil
}

//go:embed page.md.tmpl
var pageText string

// renderPage renders the page that shows the chart.
func renderPage(m machine, bars []bar, outcomes []outcome) ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{"row": row, "rule": rule}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, newPage(m, bars, outcomes)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// page has the values of the template.
type page struct {
	machine
	Alt      string
	Verdicts [][]string
	Reached  int // of Verdicts
	Sections []section
}

// section shows one scenario.
type section struct {
	Name, About string
	Table       [][]string
}

func newPage(m machine, bars []bar, outcomes []outcome) *page {
	p := &page{machine: m, Alt: chartText(bars)}
	for _, o := range outcomes {
		for _, v := range o.verdicts() {
			mark := "**no**"
			if v.reached {
				mark = "yes"
				p.Reached++
			}
			p.Verdicts = append(p.Verdicts, []string{v.what, v.figure, v.ours, v.theirs, v.spread(), v.target, mark})
		}
		p.Sections = append(p.Sections, section{o.name, o.about, o.table()})
	}
	return p
}

// row returns a line of a Markdown table.
func row(cells []string) string {
	return "| " + strings.Join(cells, " | ") + " |"
}

// rule returns the line below a table's head. The first column is text, the others
// are numbers.
func rule(cells []string) string {
	return "|---|" + strings.Repeat("--:|", len(cells)-1)
}
