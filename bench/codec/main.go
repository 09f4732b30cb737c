// Codec compares the codec that taskgen generates with others, on one struct of
// fifteen fields. Rounds are interleaved and the figures are medians, so that noise
// affects all codecs alike. Compare the ratios, not the times.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 31, "interleaved rounds")
	length := flag.Duration("time", 20*time.Millisecond, "length of one measurement")
	flag.Parse()
	if err := compare(os.Stdout, *rounds, *length); err != nil {
		fmt.Fprintln(os.Stderr, "codec:", err)
		os.Exit(1)
	}
}

// cost is the cost of one operation.
type cost struct{ ns, bytes, allocs float64 }

// compare measures the codecs in turn, many times, and prints the medians.
func compare(w io.Writer, rounds int, length time.Duration) error {
	all := codecs()
	encodes, decodes := make([][]cost, len(all)), make([][]cost, len(all))
	for range rounds {
		for i, c := range all {
			encode, err := measure(length, c.encode)
			if err != nil {
				return fmt.Errorf("encode with %s: %w", c.name, err)
			}
			decode, err := measure(length, c.decode)
			if err != nil {
				return fmt.Errorf("decode with %s: %w", c.name, err)
			}
			encodes[i], decodes[i] = append(encodes[i], encode), append(decodes[i], decode)
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	printCosts(table, "encode", all, encodes)
	printCosts(table, "decode", all, decodes)
	return table.Flush()
}

// printCosts prints the medians of one operation by format.
func printCosts(table io.Writer, operation string, all []format, costs [][]cost) {
	fmt.Fprintf(table, "%s\tns\tratio\tbytes\tallocs\t\n", operation)
	base := median(costs[baseline]).ns
	for i, c := range all {
		m := median(costs[i])
		fmt.Fprintf(table, "%s\t%.0f\t%.2f\t%.0f\t%.0f\t\n", c.name, m.ns, m.ns/base, m.bytes, m.allocs)
	}
	fmt.Fprintln(table, "\t\t\t\t\t")
}

// measure repeats an operation for about the given time.
func measure(length time.Duration, op func() error) (cost, error) {
	const batch = 256
	var before, after runtime.MemStats
	n := 0
	runtime.ReadMemStats(&before)
	start := time.Now()
	for time.Since(start) < length {
		for range batch {
			if err := op(); err != nil {
				return cost{}, err
			}
		}
		n += batch
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	per := func(v uint64) float64 { return float64(v) / float64(n) }
	return cost{
		ns:     per(uint64(took)),
		bytes:  per(after.TotalAlloc - before.TotalAlloc),
		allocs: per(after.Mallocs - before.Mallocs),
	}, nil
}

// median returns the median of each figure.
func median(costs []cost) cost {
	of := func(figure func(cost) float64) float64 { return medianOf(costs, figure) }
	return cost{
		ns:     of(func(c cost) float64 { return c.ns }),
		bytes:  of(func(c cost) float64 { return c.bytes }),
		allocs: of(func(c cost) float64 { return c.allocs }),
	}
}

// medianOf returns the median of one figure.
func medianOf(costs []cost, figure func(cost) float64) float64 {
	all := make([]float64, 0, len(costs))
	for _, c := range costs {
		all = append(all, figure(c))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
