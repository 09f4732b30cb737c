package runtime

import (
	"encoding/json"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// HeldLimit is a limit that keeps runs back, and whose it is.
type HeldLimit struct {
	broker.LimitInfo

	// Task is the task whose limit it is. Empty: unknown, as it is none of this module's.
	Task string
	// Digest is that of the values of the parameters that the limit depends on. Empty: it
	// depends on none, or Task is.
	Digest string
	// Values are these values as JSON, in the order of the directive. It is nil if they are unknown,
	// as if none of the runs that wait can be read or the task has secret parameters.
	Values []json.RawMessage
}

// digestLength is that of digestOf.
const digestLength = 22

// heldLimit returns whose limit it is, as far as its key and one of the runs that wait tell.
func (i *Inspector) heldLimit(info broker.LimitInfo) HeldLimit {
	h := HeldLimit{LimitInfo: info}
	rest := strings.TrimSuffix(info.Key, "/smooth")
	digest := ""
	if at := strings.LastIndexByte(rest, '/'); at >= 0 && len(rest)-at-1 == digestLength {
		rest, digest = rest[:at], rest[at+1:]
	}
	task, concurrency := strings.CutSuffix(rest, "/running")
	rate := false
	if !concurrency {
		task, rate = strings.CutSuffix(rest, "/rate")
	}
	if !concurrency && !rate {
		return h
	}
	h.Task, h.Digest = task, digest
	if t := i.tasks.byName[task]; t != nil && digest != "" && info.Run != nil && len(t.spec.Secrets) == 0 {
		h.Values = t.shownValues(info.Run.Payload, rate, digest)
	}
	return h
}

// shownValues returns the values of a payload that a limit depends on, nil if they do not have
// the digest, or have no form that JSON has.
func (t *Task) shownValues(payload []byte, rate bool, digest string) (shown []json.RawMessage) {
	b, err := t.limitValues(payload, rate)
	if err != nil || digestOf(b) != digest {
		return nil
	}
	r := codec.NewReader(b)
	for r.Offset() < len(b) && r.More() {
		var v any
		switch r.Kind() {
		case codec.KindNil:
			r.Nil()
		case codec.KindBool:
			v = r.Bool()
		case codec.KindInteger:
			if v = r.Int64(); r.Err() != nil { // larger
				return nil
			}
		case codec.KindFloat:
			v = r.Float64()
		case codec.KindString:
			v = r.String()
		default:
			return nil
		}
		shown = append(shown, showValue(v))
	}
	if r.Err() != nil {
		return nil
	}
	return shown
}
