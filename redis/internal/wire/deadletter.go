package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// AppendFailure appends a failure as dead letters store it, behind its length.
func AppendFailure(b []byte, f *broker.Failure) []byte {
	if f == nil {
		f = &broker.Failure{}
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = codec.AppendBytes(b, []byte(f.Kind))
	b = codec.AppendBytes(b, []byte(f.Message))
	b = codec.AppendBytes(b, []byte(f.Stack))
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// TimeDigits is the length of the milliseconds that begin a dead letter.
const TimeDigits = 13

// ReadDeadLetter returns a stored dead letter. An entry that cannot be read becomes one
// without run, kind of failure and time, so that people see it and can delete it.
func ReadDeadLetter(s string) *broker.DeadLetter {
	letter, err := parseDead(s)
	if err != nil {
		letter = &broker.DeadLetter{ID: RawID([]byte(s)), Raw: []byte(s), Failure: broker.Failure{Message: "the stored entry is no dead letter: " + err.Error()}}
	}
	return letter
}

// parseDead returns a stored dead letter: the milliseconds of its death as 13 digits,
// its failure, its stored run.
func parseDead(s string) (*broker.DeadLetter, error) {
	if len(s) < TimeDigits+4 {
		return nil, errors.New("decode dead letter: too short")
	}
	var ms int64
	if _, err := fmt.Sscanf(s[:TimeDigits], "%d", &ms); err != nil {
		return nil, errors.New("decode dead letter: no time")
	}
	s = s[TimeDigits:]
	size := int(binary.BigEndian.Uint32([]byte(s[:4])))
	if s = s[4:]; size > len(s) {
		return nil, errors.New("decode dead letter: failure cut off")
	}
	r := codec.NewReader([]byte(s[:size]))
	dead := &broker.DeadLetter{
		Failure: broker.Failure{Kind: broker.FailureKind(r.Bytes()), Message: string(r.Bytes()), Stack: string(r.Bytes())},
		At:      time.UnixMilli(ms).UTC(),
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("decode dead letter: %w", err)
	}
	stored := []byte(s[size:])
	dead.Run = new(broker.TaskRun)
	if err := ParseRun(new(broker.Decoder), stored, dead.Run); err != nil {
		dead.ID, dead.Run, dead.Raw = RawID(stored), nil, stored
		return dead, nil
	}
	dead.ID = dead.Run.ID
	return dead, nil
}

// RawID returns a name for bytes that are no stored run.
func RawID(b []byte) string {
	sum := sha256.Sum256(b)
	return "raw-" + hex.EncodeToString(sum[:12])
}
