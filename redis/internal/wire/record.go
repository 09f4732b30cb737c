package wire

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// AppendMember returns how a member ended, as its group stores it.
func AppendMember(id string, record []byte) []byte {
	return append(append([]byte{byte(len(id))}, id...), record...)
}

// ParseMember reads how a member of a group of this queue ended. It returns nil if the member
// has not ended.
func ParseMember(queueName, stored string) (*broker.Record, error) {
	if stored == "" {
		return nil, nil
	}
	size := 1 + int(stored[0])
	if len(stored) < size {
		return nil, errors.New("decode member: too short")
	}
	record := &broker.Record{ID: stored[1:size], Queue: queueName}
	return record, ParseRecord([]byte(stored[size:]), record)
}

// States are the states of a record by the letter that begins it. A record of a run that was
// cancelled has the letter of a failed one.
var States = map[byte]broker.State{
	'd': broker.StateDelayed, 'q': broker.StateQueued, 'r': broker.StateRunning,
	's': broker.StateSucceeded, 'f': broker.StateFailed,
}

// LetterOf returns the letter that begins a record of the state.
func LetterOf(state broker.State) string {
	if state == broker.StateCancelled {
		state = broker.StateFailed
	}
	return string(state[:1])
}

// recordHeader is the length of the letter and the time before the map.
const recordHeader = 1 + TimeDigits

// StartRecord appends the beginning of a record without a time.
func StartRecord(b []byte, state broker.State) []byte {
	b = slices.Grow(b, 64)
	return append(append(b, state[0]), "0000000000000"...)
}

// StartRecordAt appends the beginning of a record with the time of its state: when the run
// ended, or when an attempt began.
func StartRecordAt(b []byte, state broker.State, at time.Time) []byte {
	b = slices.Grow(b, 160) // with an attempt
	return AppendDigits(append(b, state[0]), at.UnixMilli())
}

// AppendDigits appends a time in milliseconds as TimeDigits digits.
func AppendDigits(b []byte, ms int64) []byte {
	b = append(b, "0000000000000"...)
	for at := len(b) - 1; ms > 0 && at >= len(b)-TimeDigits; at, ms = at-1, ms/10 {
		b[at] += byte(ms % 10)
	}
	return b
}

// neverDue is the time of a record of a delayed run of which nobody knows when it is due.
const neverDue = "9999999999999"

// StartPending appends the beginning of the record of a run that awaits a group.
func StartPending(b []byte) []byte { return append(append(b, 'd'), neverDue...) }

// parseDigits returns the time that the digits of a record say, the zero time for none.
func parseDigits(digits []byte) time.Time {
	if string(digits) == neverDue {
		return time.Time{}
	}
	ms := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return time.Time{}
		}
		ms = 10*ms + int64(c-'0')
	}
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// AppendReplaced appends the map of the record of a run that succeeded by returning a call.
// State and due time precede it.
func AppendReplaced(b []byte, run *broker.TaskRun, successors []broker.RunRef) ([]byte, error) {
	if len(successors) > maxSuccessors {
		return nil, fmt.Errorf("%d successors, at most %d are allowed", len(successors), maxSuccessors)
	}
	b = appendEnd(b, run, 1)
	b = codec.AppendArrayLen(codec.AppendString(b, "c"), 2*len(successors))
	for _, s := range successors {
		b = codec.AppendString(codec.AppendString(b, s.Queue), s.ID)
	}
	return b, nil
}

// readSuccessors reads the runs that a record names.
func readSuccessors(r *codec.Reader) []broker.RunRef {
	n := r.ArrayLen()
	if n%2 != 0 || n > 2*maxSuccessors {
		r.Fail(fmt.Errorf("%d values of successors, at most %d times 2 are allowed", n, maxSuccessors))
		return nil
	}
	successors := make([]broker.RunRef, 0, n/2)
	for ; n > 0 && r.More(); n -= 2 {
		successors = append(successors, broker.RunRef{Queue: r.String(), ID: r.String()})
	}
	return successors
}

// maxSuccessors is how many a record can name.
const maxSuccessors = broker.MaxThen + 1

// AppendRecord appends the map of the record of a run that goes on. State and due time precede
// it.
func AppendRecord(b []byte, run *broker.TaskRun, f *broker.Failure) []byte {
	if f == nil {
		return appendMap(b, run, 0)
	}
	return AppendFailureFields(appendMap(b, run, failureFields), f)
}

// AppendEnd appends the map of the record of a run that has ended. State and time precede it.
func AppendEnd(b []byte, run *broker.TaskRun, result []byte, f *broker.Failure) []byte {
	n := 0
	if len(result) > 0 {
		n++
	}
	if f != nil {
		n += failureFields
	}
	b = appendEnd(b, run, n)
	if len(result) > 0 {
		b = codec.AppendBytes(codec.AppendString(b, "r"), result)
	}
	if f != nil {
		b = AppendFailureFields(b, f)
	}
	return b
}

// appendEnd appends the beginning of the map of an ended run's record, which gets n more
// fields.
func appendEnd(b []byte, run *broker.TaskRun, n int) []byte {
	if !run.KeepParams {
		return appendMap(b, run, n)
	}
	return codec.AppendBytes(codec.AppendString(appendMap(b, run, n+1), "b"), run.Payload)
}

// AsMember returns the run as a record in a group has it. A group keeps the results of its
// members until they are gathered, and nobody asks it for more.
func AsMember(run *broker.TaskRun) *broker.TaskRun {
	if run.History == nil && !run.KeepParams {
		return run
	}
	bare := *run
	bare.History, bare.KeepParams = nil, false
	return &bare
}

// appendMap appends the beginning of a record's map, which gets n more fields.
func appendMap(b []byte, run *broker.TaskRun, n int) []byte {
	n += 2
	if run.ParentID != "" {
		n++
	}
	elsewhere := run.Links != nil && run.Links.GroupQueue != "" // the record is kept by the group, in another queue
	if elsewhere {
		n++
	}
	if !run.QueuedAt.IsZero() {
		n++
	}
	attempts := run.History.OrZero().Attempts
	if len(attempts) > 0 {
		n++
	}
	b = codec.AppendMapLen(b, n)
	if elsewhere {
		b = codec.AppendString(codec.AppendString(b, "q"), run.Queue)
	}
	b = codec.AppendString(codec.AppendString(b, "t"), run.Task)
	b = codec.AppendInt(codec.AppendString(b, "a"), int64(run.Attempt))
	if run.ParentID != "" {
		b = codec.AppendString(codec.AppendString(b, "p"), run.ParentID)
	}
	if !run.QueuedAt.IsZero() {
		b = codec.AppendInt(codec.AppendString(b, "qa"), nanosOf(run.QueuedAt))
	}
	if len(attempts) > 0 {
		b = broker.AppendAttempts(codec.AppendString(b, "ha"), attempts)
	}
	return b
}

// failureFields is how many fields a failure has in a record.
const failureFields = 3

// AppendFailureFields appends the fields of a failure.
func AppendFailureFields(b []byte, f *broker.Failure) []byte {
	// Bytes: an error's text can be anything.
	b = codec.AppendBytes(codec.AppendString(b, "fk"), []byte(f.Kind))
	b = codec.AppendBytes(codec.AppendString(b, "fm"), []byte(f.Message))
	return codec.AppendBytes(codec.AppendString(b, "fs"), []byte(f.Stack))
}

// parseFailureFields reads the fields that AppendFailureFields has written.
func parseFailureFields(b []byte, f *broker.Failure) error {
	r := codec.NewReader(b)
	for range failureFields {
		switch string(r.Key()) {
		case "fk":
			f.Kind = broker.FailureKind(r.Bytes())
		case "fm":
			f.Message = string(r.Bytes())
		case "fs":
			f.Stack = string(r.Bytes())
		default:
			r.Skip()
		}
	}
	if err := r.Done(); err != nil {
		return fmt.Errorf("decode failure: %w", err)
	}
	return nil
}

// OpenRecord is AppendEnd for a failed run, without the fields of the failure, which follow.
func OpenRecord(b []byte, run *broker.TaskRun) []byte {
	return appendEnd(b, run, failureFields)
}

// OpenSkipped appends the record of a run that was skipped as a duplicate, except for
// the id of the other run, which the script appends.
func OpenSkipped(b []byte, run *broker.TaskRun) []byte {
	b = OpenRecord(b, run)
	b = codec.AppendBytes(codec.AppendString(b, "fk"), []byte(broker.FailureDuplicate))
	b = codec.AppendBytes(codec.AppendString(b, "fs"), nil)
	return codec.AppendString(b, "fm")
}

// ParseRecord sets record to a stored record. It skips fields of newer versions.
func ParseRecord(b []byte, record *broker.Record) error {
	if len(b) < recordHeader {
		return errors.New("decode record: too short")
	}
	var known bool
	if record.State, known = States[b[0]]; !known {
		return fmt.Errorf("decode record: unknown state %q", b[0])
	}
	host, size := parseHost(b[recordHeader:])
	r := codec.NewReader(b[recordHeader+size:])
	var f broker.Failure
	failed := false
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		switch string(r.Key()) {
		case "q":
			record.Queue = r.String()
		case "t":
			record.Task = r.String()
		case "a":
			record.Attempt = r.Int()
		case "p":
			record.ParentID = r.String()
		case "qa":
			record.QueuedAt = fromNanos(r.Int64())
		case "ha":
			record.Attempts = broker.ReadAttempts(r)
		case "b":
			record.Payload = r.Bytes()
		case "r":
			record.Result = r.Bytes()
		case "c":
			record.Successors = readSuccessors(r)
		case "fk":
			f.Kind, failed = broker.FailureKind(r.Bytes()), true
		case "fm":
			f.Message = string(r.Bytes())
		case "fs":
			f.Stack = string(r.Bytes())
		default:
			r.Skip() // written by a newer version
		}
	}
	if failed {
		record.Failure = &f
	}
	if err := r.Done(); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	if record.State == broker.StateFailed && f.Kind == broker.FailureCancelled {
		record.State = broker.StateCancelled
	}
	switch at := parseDigits(b[1:recordHeader]); record.State {
	case broker.StateDelayed:
		record.Due = at
	case broker.StateRunning:
		record.StartedAt, record.Host = at, host
	case broker.StateSucceeded, broker.StateFailed, broker.StateCancelled:
		record.EndedAt = at
	}
	return nil
}

// longestHost is how long the host before the map of a record can be. A greater byte opens a map.
const longestHost = 127

// AppendHost appends the host that recordrunning.lua puts before the map of a record.
func AppendHost(b []byte, host string) []byte {
	host = host[:min(len(host), longestHost)]
	return append(append(b, byte(len(host))), host...)
}

// parseHost returns the host before the map of a record, if it has one, and how many bytes that
// takes.
func parseHost(b []byte) (host string, size int) {
	if len(b) == 0 || b[0] > longestHost || len(b) < 1+int(b[0]) {
		return "", 0
	}
	size = 1 + int(b[0])
	return strings.ToValidUTF8(string(b[1:size]), "?"), size
}

// fromNanos returns the zero time for 0.
func fromNanos(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
