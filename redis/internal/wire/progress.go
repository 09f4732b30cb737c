package wire

import (
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// AppendLast appends how the latest run of a task ended.
func AppendLast(b []byte, l *broker.LastRun) []byte {
	b = fmt.Appendf(b, "%0*d", lastDigits, max(l.Started.UnixNano(), 0))
	b = codec.AppendArrayLen(b, 3)
	b = codec.AppendString(b, l.ID)
	b = codec.AppendInt(b, int64(l.Took))
	return codec.AppendBytes(b, []byte(l.Failure)) // of any text
}

// AppendProgress appends the progress of a run.
func AppendProgress(b []byte, p *broker.Progress) []byte {
	b = codec.AppendArrayLen(b, 3)
	b = codec.AppendInt(codec.AppendInt(b, p.Done), p.Total)
	return codec.AppendBytes(b, []byte(p.Note)) // of any text
}

// ParseProgress returns nil if there is no progress, or none that can be read.
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

// lastDigits is the length of the start in nanoseconds that begins the latest run of a
// task. An array follows.
const lastDigits = 20

// ParseLast returns the latest runs by their tasks. It omits those that cannot be read.
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
