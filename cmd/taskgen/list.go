package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/taskgen/taskgen/internal/taskgen"
)

// printTasks prints a line for each task and an explanation of its schedule, or the
// whole catalogue as JSON or AsyncAPI.
func printTasks(stdout, stderr io.Writer, tasks []taskgen.Task, opts options) int {
	write := writeTable
	switch {
	case opts.json:
		write = writeJSON
	case opts.asyncAPI:
		write = writeAsyncAPI
	}
	if err := write(stdout, tasks); err != nil {
		fmt.Fprintln(stderr, "taskgen: write catalogue:", err)
		return exitProblem
	}
	return exitOK
}

func writeJSON(w io.Writer, tasks []taskgen.Task) error {
	if tasks == nil {
		tasks = []taskgen.Task{} // a list, not null
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(tasks)
}

func writeAsyncAPI(w io.Writer, tasks []taskgen.Task) error {
	doc, err := taskgen.AsyncAPI(tasks)
	if err != nil {
		return err
	}
	_, err = w.Write(doc)
	return err
}

func writeTable(w io.Writer, tasks []taskgen.Task) error {
	// Lines between two rows would split the columns, so lay out the table first.
	var table bytes.Buffer
	columns := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, t := range tasks {
		fmt.Fprintf(columns, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.Kind, t.Queue, t.Schedule, t.Stub, t.Position)
	}
	columns.Flush()
	var out bytes.Buffer
	rows := strings.SplitAfter(table.String(), "\n")
	for i, t := range tasks {
		out.WriteString(rows[i])
		if t.ReturnsCall {
			out.WriteString("    returns a call\n")
		}
		for _, line := range t.Schedule.Lines() {
			out.WriteString("    " + line + "\n")
		}
	}
	_, err := w.Write(out.Bytes())
	return err
}
