package directive

import (
	"maps"
	"slices"
)

// rule is what the grammar says of one directive.
type rule struct {
	supported  bool
	option     bool                // says how a task runs: needs //task:io or //task:cpu beside it
	repeatable bool                // may stand more than once
	min, max   int                 // positional arguments; max -1: any number
	keys       []string            // known as key=value
	flags      []string            // known as a bare word behind the positional arguments
	refused    []string            // of the keys, those not supported yet
	usage      string              // an example, for errors
	apply      func(*fold, *parts) // takes the arguments over; nil when not supported
}

// table is the grammar, one row a directive. It is never written to.
var table = map[string]rule{
	"io":       {supported: true, usage: "//task:io", apply: applyKind},
	"cpu":      {supported: true, usage: "//task:cpu", apply: applyKind},
	"name":     {supported: true, option: true, min: 1, max: 1, usage: "//task:name heavy_calculation", apply: applyName},
	"queue":    {supported: true, option: true, min: 1, max: 1, usage: "//task:queue critical", apply: applyQueue},
	"priority": {supported: true, option: true, min: 1, max: 1, usage: "//task:priority high", apply: applyPriority},
	"every":    {supported: true, option: true, min: 1, max: 1, keys: []string{"jitter"}, refused: []string{"jitter"}, flags: []string{"start"}, usage: "//task:every 10s", apply: applyEvery},
	"retry":    {supported: true, option: true, min: 1, max: 1, keys: []string{"backoff", "factor"}, usage: "//task:retry 5 backoff=1s..10m factor=2", apply: applyRetry},
	"timeout":  {supported: true, option: true, min: 1, max: 1, usage: "//task:timeout 30s", apply: applyTimeout},
	"expire":   {supported: true, option: true, min: 1, max: 1, usage: "//task:expire 1h", apply: applyExpire},
	"result":   {supported: true, option: true, min: 1, max: 1, usage: "//task:result 1h", apply: applyResult},
	"tags":     {supported: true, option: true, min: 1, max: -1, usage: "//task:tags billing nightly", apply: applyTags},

	"cron":        {option: true},
	"missed":      {option: true},
	"overlap":     {option: true},
	"unique":      {option: true},
	"concurrency": {option: true},
	"rate":        {option: true},
	"fair":        {option: true},
	"memory":      {option: true},
	"env":         {option: true, repeatable: true},
	"secret":      {option: true, repeatable: true},
	"default":     {option: true, repeatable: true},
	"rename":      {option: true, repeatable: true},
	"alias":       {option: true, repeatable: true},
}

// names returns the name of every directive, in alphabetical order.
func names() []string { return slices.Sorted(maps.Keys(table)) }

// closest returns the word of known that word is most likely a misspelling of,
// or "" when none is near.
func closest(word string, known []string) string {
	best, limit := "", 1+len(word)/4
	for _, k := range known {
		if d := distance(word, k); d <= limit {
			best, limit = k, d-1
		}
	}
	return best
}

// distance is the number of letters inserted, deleted, changed or swapped with
// their neighbour between a and b (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
