package wire

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// InstancesKey returns the key of the hash of all instances.
func InstancesKey(prefix string) string { return prefix + ":instances" }

// LongestInstance is how many bytes an instance takes at most: of its queues each name with its
// weight and what encodes both, and the rest.
const LongestInstance = broker.MaxInstanceQueues*(broker.MaxName+12) + 4096

// AppendInstance appends an instance as it is stored behind when it was last seen, without its
// id. It is bounded.
func AppendInstance(b []byte, i *broker.Instance) []byte {
	b = codec.AppendMapLen(b, 13)
	b = codec.AppendString(codec.AppendString(b, "r"), string(i.Role))
	b = codec.AppendString(codec.AppendString(b, "h"), i.Host)
	b = codec.AppendInt(codec.AppendString(b, "p"), int64(i.PID))
	b = codec.AppendString(codec.AppendString(b, "v"), i.Version)
	b = codec.AppendInt(codec.AppendString(b, "s"), nanosOf(i.Started))
	b = codec.AppendBool(codec.AppendString(b, "x"), i.Stopping)
	b = codec.AppendMapLen(codec.AppendString(b, "q"), len(i.Queues))
	for _, name := range slices.Sorted(maps.Keys(i.Queues)) {
		b = codec.AppendInt(codec.AppendString(b, name), int64(i.Queues[name]))
	}
	b = codec.AppendInt(codec.AppendString(b, "m"), int64(i.More))
	b = codec.AppendString(codec.AppendString(b, "a"), i.Address)
	b = codec.AppendInt(codec.AppendString(b, "w"), nanosOf(i.Scraped))
	b = codec.AppendString(codec.AppendString(b, "e"), i.Session)
	b = codec.AppendArrayLen(codec.AppendString(b, "l"), 2*len(i.Slots))
	for _, s := range i.Slots {
		b = codec.AppendInt(codec.AppendInt(b, int64(s.Total)), int64(s.Busy))
	}
	return codec.AppendInt(codec.AppendString(b, "c"), int64(i.Children))
}

// ParseInstance returns a stored instance. It skips fields of newer versions.
func ParseInstance(id, stored string) (*broker.Instance, error) {
	if len(stored) < TimeDigits || len(stored) > LongestInstance+TimeDigits {
		return nil, errors.New("decode instance: too short or too long")
	}
	i := &broker.Instance{ID: id, Seen: parseDigits([]byte(stored[:TimeDigits]))}
	r := codec.NewReader([]byte(stored[TimeDigits:]))
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		switch string(r.Key()) {
		case "r":
			i.Role = broker.Role(r.String())
		case "h":
			i.Host = r.String()
		case "p":
			i.PID = r.Int()
		case "v":
			i.Version = r.String()
		case "s":
			i.Started = fromNanos(r.Int64())
		case "x":
			i.Stopping = r.Bool()
		case "q":
			i.Queues = readWeights(r)
		case "m":
			i.More = r.Int()
		case "a":
			i.Address = r.String()
		case "w":
			i.Scraped = fromNanos(r.Int64())
		case "e":
			i.Session = r.String()
		case "l":
			readSlots(r, &i.Slots)
		case "c":
			i.Children = r.Int()
		default:
			r.Skip() // written by a newer version
		}
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("decode instance: %w", err)
	}
	bounded, err := i.Bounded()
	if err != nil {
		return nil, fmt.Errorf("decode instance: %w", err)
	}
	return bounded, nil
}

func readWeights(r *codec.Reader) map[string]int {
	n := r.MapLen()
	weights := make(map[string]int, min(n, broker.MaxInstanceQueues))
	for ; n > 0 && r.More(); n-- {
		name := r.String()
		weights[name] = r.Int()
	}
	return weights
}

// readSlots reads pairs of how many slots there are and how many are busy. It skips those of
// other kinds.
func readSlots(r *codec.Reader, slots *[2]broker.Slots) {
	for at, n := 0, r.ArrayLen(); at < n && r.More(); at++ {
		v := r.Int()
		switch kind := at / 2; {
		case kind >= len(slots):
		case at%2 == 0:
			slots[kind].Total = v
		default:
			slots[kind].Busy = v
		}
	}
}

// nanosOf returns 0 for the zero time.
func nanosOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
