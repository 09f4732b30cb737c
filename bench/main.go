// Bench compares taskgen with other task queues on a redis-server that it starts
// itself. Rounds are interleaved and the figures are medians, so that noise affects
// all systems alike. Compare the ratios, not the rates. With -write it writes a page
// and a chart.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/taskgen/taskgen/bench/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func main() {
	taskrt.ServeChild(tasks.Tasks(&tasks.Counter{})) // a child process ends here
	o, err := parseFlags()
	if err == nil {
		err = profiled(o.profile, func() error { return bench(o) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the parsed command line.
type options struct {
	environment
	scenarios, systems *regexp.Regexp // to measure
	profile            string         // file for a CPU profile
	write              string         // folder for the page and the chart
}

func parseFlags() (*options, error) {
	o := &options{}
	flag.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	flag.DurationVar(&o.length, "time", 2*time.Second, "length of a measurement that is bounded by time")
	flag.Int64Var(&o.drain, "drain", 100_000, "tasks of a measurement that is bounded by number")
	only := flag.String("only", "", "regular expression of the scenarios to run")
	system := flag.String("system", "", "regular expression of the systems to measure")
	flag.BoolVar(&o.connections, "connections", false, "compare the broker's own connections with go-redis's pool, and nothing else")
	flag.StringVar(&o.profile, "cpuprofile", "", "file to write a CPU profile of the scenarios to")
	flag.StringVar(&o.write, "write", "", "folder to write benchmarks.md and benchmarks.svg to; not with -only or -system")
	flag.Parse()
	if o.write != "" && (*only != "" || *system != "" || o.connections) {
		return nil, errors.New("-write needs every figure: leave out -only, -system and -connections")
	}
	var err error
	if o.scenarios, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("read -only: %w", err)
	}
	if o.systems, err = regexp.Compile(*system); err != nil {
		return nil, fmt.Errorf("read -system: %w", err)
	}
	return o, nil
}

// profiled calls f and writes a CPU profile of it to file, if one is named.
func profiled(file string, f func() error) error {
	if file == "" {
		return f()
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}

// bench measures the scenarios on a server of its own, and prints or writes the
// outcomes.
func bench(o *options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	e := &o.environment
	if e.server, err = startRedis(ctx); err != nil {
		return err
	}
	defer e.server.stop()
	outcomes, err := run(ctx, e, o.scenarios, o.systems)
	if err != nil {
		return err
	}
	printGoals(os.Stdout, outcomes)
	if o.write == "" {
		return nil
	}
	m, err := describeMachine(ctx, e)
	if err != nil {
		return err
	}
	return writePages(o.write, m, outcomes)
}

// run measures the wanted scenarios and prints each result.
func run(ctx context.Context, e *environment, only, wanted *regexp.Regexp) ([]outcome, error) {
	var outcomes []outcome
	for _, sc := range scenarios(e) {
		if !wanted.MatchString(sc.subjects[0].name) {
			sc.goals = nil // the goals are for that subject
		}
		sc.subjects = slices.DeleteFunc(sc.subjects, func(s subject) bool { return !wanted.MatchString(s.name) })
		if !only.MatchString(sc.name) || len(sc.subjects) == 0 {
			continue
		}
		o, err := measure(ctx, e, sc)
		if err != nil {
			return nil, err
		}
		printOutcome(os.Stdout, o)
		outcomes = append(outcomes, *o)
	}
	return outcomes, nil
}

// measure measures the subjects of a scenario in turn, on an empty server each time.
func measure(ctx context.Context, e *environment, sc scenario) (*outcome, error) {
	o := &outcome{scenario: sc, samples: make([][]sample, len(sc.subjects))}
	for round := range e.rounds {
		for i, s := range sc.subjects {
			fmt.Fprintf(os.Stderr, "\r\x1b[K%s: %s, round %d of %d", sc.name, s.name, round+1, e.rounds)
			if err := e.server.client.FlushAll(ctx).Err(); err != nil {
				return nil, err
			}
			got, err := s.measure(ctx, e)
			if err != nil {
				return nil, fmt.Errorf("measure %s of %s: %w", sc.name, s.name, err)
			}
			o.samples[i] = append(o.samples[i], got)
		}
	}
	fmt.Fprint(os.Stderr, "\r\x1b[K")
	return o, nil
}

// writePages writes the page and its chart.
func writePages(dir string, m machine, outcomes []outcome) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	bars := barsOf(outcomes)
	page, err := renderPage(m, bars, outcomes)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "benchmarks.svg"), renderChart(bars), 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "benchmarks.md"), page, 0o666)
}
