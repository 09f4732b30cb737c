// Bench compares taskgen with other task queues on one redis-server that it
// starts itself. Rounds are interleaved and the figures are medians, so that a
// noisy machine hits all sides alike: read the ratios, not the rates.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "interleaved rounds")
	length := flag.Duration("time", 2*time.Second, "length of a measurement that is bounded by time")
	tasks := flag.Int64("drain", 100_000, "tasks of a measurement that is bounded by number")
	only := flag.String("only", "", "regular expression of the scenarios to run")
	system := flag.String("system", "", "regular expression of the systems to measure")
	profile := flag.String("cpuprofile", "", "file to write a CPU profile of the scenarios to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	chosen, err := regexp.Compile(*only)
	var systems *regexp.Regexp
	if err == nil {
		systems, err = regexp.Compile(*system)
	}
	if err == nil {
		err = run(ctx, chosen, systems, *rounds, environment{length: *length, drain: *tasks})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// scenarios are measured in this order, of the systems named.
func scenarios() []scenario {
	ours, peer, raw := taskgenSystem{}, asynqSystem{}, rawSystem{}
	peers := []system{ours, peer}
	all := []system{ours, peer, raw}
	return []scenario{
		{"queue and run, 64 producers, 64 slots", peers, steady(64, 64, false)},
		{"the same, results kept for 1h", peers, steady(64, 64, true)},
		{"drain, 64 slots", peers, drain(64)},
		{"drain, 10 slots", peers, drain(10)},
		{"enqueue, 1 caller", all, enqueue(1, 1)},
		{"enqueue, 64 callers", all, enqueue(64, 1)},
		{"enqueue, 8 callers, batches of 100", all, enqueue(8, 100)},
		{"pickup when idle", all, pickup},
		{"idle, 1 queue", peers, idle(1)},
		{"idle, 10 queues", peers, idle(10)},
	}
}

// result is the samples of one system in one scenario.
type result struct {
	scenario, system string
	samples          []sample
}

func run(ctx context.Context, only, wanted *regexp.Regexp, rounds int, e environment) error {
	var err error
	if e.server, err = startRedis(ctx); err != nil {
		return err
	}
	defer e.server.stop()
	for _, sc := range scenarios() {
		sc.systems = slices.DeleteFunc(slices.Clone(sc.systems), func(s system) bool { return !wanted.MatchString(s.name()) })
		if !only.MatchString(sc.name) || len(sc.systems) == 0 {
			continue
		}
		rs := make([]*result, len(sc.systems))
		for i, s := range sc.systems {
			rs[i] = &result{scenario: sc.name, system: s.name()}
		}
		for round := range rounds {
			for i, s := range sc.systems {
				fmt.Fprintf(os.Stderr, "\r\x1b[K%s: %s, round %d of %d", sc.name, s.name(), round+1, rounds)
				if err := e.server.client.FlushAll(ctx).Err(); err != nil {
					return err
				}
				sample, err := sc.measure(ctx, &e, s)
				if err != nil {
					return fmt.Errorf("measure %s of %s: %w", sc.name, s.name(), err)
				}
				rs[i].samples = append(rs[i].samples, sample)
			}
		}
		fmt.Fprint(os.Stderr, "\r\x1b[K")
		report(os.Stdout, rs)
	}
	return nil
}

// figures are the columns of the report, in order; of those marked more is
// better.
var figures = []struct {
	name string
	more bool
}{
	{"tasks/s", true}, {"p50 ms", false}, {"p99 ms", false}, {"commands/s", false},
	{"Redis µs/task", false}, {"client µs/task", false}, {"commands/task", false}, {"bytes/task", false},
}

// report prints the medians of a scenario's systems and by how much the first
// one is better than the others.
func report(out io.Writer, results []*result) {
	fmt.Fprintf(out, "%s\n", results[0].scenario)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	var shown []string
	for _, f := range figures {
		if _, ok := results[0].samples[0][f.name]; ok {
			shown = append(shown, f.name)
		}
	}
	fmt.Fprintf(w, "\t%s\t\n", strings.Join(shown, "\t"))
	for i, r := range results {
		fmt.Fprintf(w, "%s", r.system)
		for _, f := range figures {
			if !slices.Contains(shown, f.name) {
				continue
			}
			value := median(r.samples, f.name)
			fmt.Fprintf(w, "\t%s", number(value))
			if i == 0 {
				continue
			}
			ratio := median(results[0].samples, f.name) / value
			if !f.more {
				ratio = 1 / ratio
			}
			fmt.Fprintf(w, " (%.2gx)", ratio)
		}
		fmt.Fprintln(w, "\t")
	}
	w.Flush()
	fmt.Fprintln(out)
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func median(samples []sample, figure string) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = s[figure]
	}
	slices.Sort(values)
	return values[len(values)/2]
}
