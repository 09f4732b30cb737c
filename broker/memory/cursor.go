package memory

import (
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/broker"
)

// position is where a search is: behind the entry that it looked at last. What the numbers mean
// depends on the search.
type position struct {
	n  [4]int64
	id string
}

// Each list has a position before its first entry.
var (
	beforeLowest  = position{n: [4]int64{0, math.MinInt64}}
	beforeEarlier = position{n: [4]int64{math.MinInt64, 0, math.MinInt64, 0}}
	beforeNewest  = position{n: [4]int64{math.MaxInt64}}
)

// searchName names what a cursor belongs to.
func searchName(queue string, what broker.State) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %s", what, queue)
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// cursor returns the position as text, for the search of that name.
func (p position) cursor(name string) string {
	return fmt.Sprintf("%s:%d:%d:%d:%d:%s", name, p.n[0], p.n[1], p.n[2], p.n[3], p.id)
}

// parseCursor returns the position that After names, or start if it is empty. The error is
// [broker.ErrAfter].
func parseCursor(name, after string, start position) (p position, err error) {
	if after == "" {
		return start, nil
	}
	parts := strings.SplitN(after, ":", 2+len(p.n))
	if len(parts) < 2+len(p.n) || parts[0] != name || len(after) > broker.MaxID+200 {
		return p, fmt.Errorf("continue after %.64q: %w", after, broker.ErrAfter)
	}
	for i := range p.n {
		if p.n[i], err = strconv.ParseInt(parts[1+i], 10, 64); err != nil {
			return p, fmt.Errorf("continue after %.64q: %w", after, broker.ErrAfter)
		}
	}
	p.id = parts[1+len(p.n)]
	return p, nil
}
