package wire

import (
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// AppendMember is how a member ended as its group has it.
func AppendMember(id string, record []byte) []byte {
	return append(append([]byte{byte(len(id))}, id...), record...)
}

// ParseMember returns nil of a member that has not ended.
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

// States are the letters that open a stored record.
var States = map[byte]broker.State{
	'd': broker.StateDelayed, 'q': broker.StateQueued, 'r': broker.StateRunning,
	's': broker.StateSucceeded, 'f': broker.StateFailed,
}

func LetterOf(state broker.State) string { return string(state[:1]) }

// recordHeader is the length of the letter and the time before the map.
const recordHeader = 1 + TimeDigits

// StartRecord appends what opens a record that needs no time.
func StartRecord(b []byte, state broker.State) []byte {
	b = slices.Grow(b, 64)
	return append(append(b, state[0]), "0000000000000"...)
}

// AppendRecord appends what is known of a run as its record has it, the state
// and when it is due left out.
func AppendRecord(b []byte, run *broker.TaskRun, result []byte, f *broker.Failure) []byte {
	n := 0
	if len(result) > 0 {
		n++
	}
	if f != nil {
		n += failureFields
	}
	b = appendMap(b, run, n)
	if len(result) > 0 {
		b = codec.AppendBytes(codec.AppendString(b, "r"), result)
	}
	if f != nil {
		b = AppendFailureFields(b, f)
	}
	return b
}

// appendMap appends the start of a record's map, which has n more fields.
func appendMap(b []byte, run *broker.TaskRun, n int) []byte {
	n += 2
	if run.ParentID != "" {
		n++
	}
	b = codec.AppendMapLen(b, n)
	b = codec.AppendString(codec.AppendString(b, "t"), run.Task)
	b = codec.AppendInt(codec.AppendString(b, "a"), int64(run.Attempt))
	if run.ParentID != "" {
		b = codec.AppendString(codec.AppendString(b, "p"), run.ParentID)
	}
	return b
}

// failureFields is how many fields a failure has in a record.
const failureFields = 3

func AppendFailureFields(b []byte, f *broker.Failure) []byte {
	// Bytes: an error's text can be anything.
	b = codec.AppendBytes(codec.AppendString(b, "fk"), []byte(f.Kind))
	b = codec.AppendBytes(codec.AppendString(b, "fm"), []byte(f.Message))
	return codec.AppendBytes(codec.AppendString(b, "fs"), []byte(f.Stack))
}

// parseFailureFields reads what appendFailureFields has written.
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

// OpenRecord is appendRecord without the fields of its failure, which are put
// behind it.
func OpenRecord(b []byte, run *broker.TaskRun) []byte {
	return appendMap(b, run, failureFields)
}

// OpenSkipped is the record of a run that was skipped as a duplicate, but for the
// id of the run in its way, which the script puts behind it.
func OpenSkipped(b []byte, run *broker.TaskRun) []byte {
	b = OpenRecord(b, run)
	b = codec.AppendBytes(codec.AppendString(b, "fk"), []byte(broker.FailureDuplicate))
	b = codec.AppendBytes(codec.AppendString(b, "fs"), nil)
	return codec.AppendString(b, "fm")
}

func ParseRecord(b []byte, record *broker.Record) error {
	if len(b) < recordHeader {
		return errors.New("decode record: too short")
	}
	var known bool
	if record.State, known = States[b[0]]; !known {
		return fmt.Errorf("decode record: unknown state %q", b[0])
	}
	r := codec.NewReader(b[recordHeader:])
	var f broker.Failure
	failed := false
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		switch string(r.Key()) {
		case "t":
			record.Task = r.String()
		case "a":
			record.Attempt = r.Int()
		case "p":
			record.ParentID = r.String()
		case "r":
			record.Result = r.Bytes()
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
	return nil
}
