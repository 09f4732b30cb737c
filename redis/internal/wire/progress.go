package wire

import (
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// AppendLast appends how the latest run of a task ended as it is stored.
func AppendLast(b []byte, l *broker.LastRun) []byte {
	b = fmt.Appendf(b, "%0*d", lastDigits, max(l.Started.UnixNano(), 0))
	b = codec.AppendArrayLen(b, 3)
	b = codec.AppendString(b, l.ID)
	b = codec.AppendInt(b, int64(l.Took))
	return codec.AppendBytes(b, []byte(l.Failure)) // of any text
}

// AppendProgress appends what a run says of how far it is, as it is stored: an
// array.
func AppendProgress(b []byte, p *broker.Progress) []byte {
	b = codec.AppendArrayLen(b, 3)
	b = codec.AppendInt(codec.AppendInt(b, p.Done), p.Total)
	return codec.AppendBytes(b, []byte(p.Note)) // of any text
}

// ParseProgress returns nil when there is none, or none that can be read.
func ParseProgress(stored string) *broker.Progress {
	if stored == "" {
		return nil
	}
	in := codec.NewReader([]byte(stored))
	if in.ArrayLen() != 3 {
		return nil
	}
	p := &broker.Progress{Done: in.Int64(), Total: in.Int64(), Note: string(in.Bytes())}
	if in.Done() != nil {
		return nil
	}
	return p
}

// How the latest run of a task ended is stored as 20 digits, when it started in
// nanoseconds since the epoch, and an array.
const lastDigits = 20

// ParseLast leaves out what cannot be read.
func ParseLast(queueName string, stored map[string]string) map[string]broker.LastRun {
	last := make(map[string]broker.LastRun, len(stored))
	for task, s := range stored {
		if len(s) <= lastDigits {
			continue
		}
		ns, err := strconv.ParseInt(s[:lastDigits], 10, 64)
		in := codec.NewReader([]byte(s[lastDigits:]))
		if n := in.ArrayLen(); err != nil || n != 3 {
			continue
		}
		l := broker.LastRun{Queue: queueName, Task: task, Started: time.Unix(0, ns).UTC()}
		l.ID, l.Took, l.Failure = in.String(), in.Duration(), broker.FailureKind(in.Bytes())
		if in.Done() == nil {
			last[task] = l
		}
	}
	return last
}
