package redis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/redis/internal/resp"
)

// A stored run is a header, which scripts read and patch by offset, and the
// run's envelope, without the id. The header:
//
//	0     version
//	1     flags, and in the upper four bits what recoveries leave
//	2     kind: 0 io, 1 cpu
//	3     priority: 0 low, 1 medium, 2 high
//	4..7  deliveries that have ended, big endian; the envelope's do not count
//	8     length of the id
//	9..   the id
//
// and behind it, if flagUnique or flagLine is set, the extension (policies.go).
const (
	elementVersion = 1
	lastVersion    = 31 // there can be: text opens with a greater byte
	headerSize     = 9

	flagRecord = 1 // the run has a record
	flagOwnID  = 2 // the run's id has a key
	flagUnique = 4 // the run has a unique key
	flagLine   = 8 // the run has a fair value or limits

	// The flags' upper four bits are zero of a run that no recovery gave back.
	// After one they are 1, raised by each that does not count as a delivery, and
	// hasBegun from when the run is about to begin until the next.
	pastShift = 4
	hasBegun  = 15
)

// lane is the run's ready list, 1 to 6: io high, medium, low, cpu high, medium,
// low.
func lane(r *broker.TaskRun) int {
	kind, priority := place(r)
	return int(kind)*3 + 3 - int(priority)
}

func place(r *broker.TaskRun) (kind, priority byte) {
	if r.Kind == broker.CPU {
		kind = 1
	}
	return kind, byte(1 + min(max(r.Priority, broker.Low), broker.High))
}

// appendElement appends a run as it is stored. Its Deliveries are taken as
// those that have ended.
func appendElement(b []byte, r *broker.TaskRun) ([]byte, error) {
	kind, priority := place(r)
	var flags byte
	if r.Keep > 0 {
		flags |= flagRecord
	}
	if r.OwnID {
		flags |= flagOwnID
	}
	flags |= policyFlags(r)
	b = append(b, elementVersion, flags, kind, priority)
	b = binary.BigEndian.AppendUint32(b, uint32(min(max(r.Deliveries, 0), math.MaxUint32)))
	b = append(append(b, byte(len(r.ID))), r.ID...)
	if flags&(flagUnique|flagLine) != 0 {
		b = appendExtension(b, r)
	}
	named := *r
	named.ID = "" // the header has it
	return named.AppendBinary(b)
}

// scratch is where a load is encoded on its way into a command.
type scratch struct {
	load    load
	element []byte
	record  []byte
}

func newScratch() *scratch {
	return &scratch{load: load{elements: make([]byte, 0, 1024)}, element: make([]byte, 0, 512)}
}

// encode makes the load of runs. It is valid until the next call.
func (s *scratch) encode(q *queue, lane int, runs []*broker.TaskRun) error {
	if s.load.weight() > maxWeight {
		s.load = load{}
	}
	l := &s.load
	*l = load{lane: lane, n: len(runs), elements: l.elements[:0], records: l.records[:0]}
	for _, run := range runs {
		element, err := appendElement(s.element[:0], run)
		if err != nil {
			return fmt.Errorf("encode run %s: %w", run.ID, err)
		}
		s.element = element
		l.elements = resp.AppendBulk(l.elements, element)
		if run.Keep > 0 {
			s.record = append(append(append(s.record[:0], q.base...), "rec:"...), run.ID...)
			l.records = resp.AppendBulk(l.records, s.record)
			s.record = appendRecord(startRecord(s.record[:0], broker.StateQueued), run, nil, nil)
			l.records = resp.AppendBulk(l.records, s.record)
			l.kept++
		}
	}
	return nil
}

// header is what scripts know of a stored run.
type header struct {
	id         []byte
	record     bool
	ownID      bool
	deliveries int
	extension  []byte // nil if it has none
	flags      byte
	size       int
}

func parseHeader(e []byte) (header, error) {
	if len(e) > headerSize && e[0] > elementVersion && e[0] <= lastVersion {
		return header{}, fmt.Errorf("decode stored run: an element of version %d, this build reads version %d: a newer version of taskgen wrote it; %s", e[0], elementVersion, upgrade)
	}
	if len(e) <= headerSize || e[0] != elementVersion || len(e) < headerSize+int(e[8]) {
		return header{}, errors.New("decode stored run: not an element of version 1")
	}
	size := headerSize + int(e[8])
	h := header{
		id:         e[headerSize:size:size],
		record:     e[1]&flagRecord != 0,
		ownID:      e[1]&flagOwnID != 0,
		deliveries: int(binary.BigEndian.Uint32(e[4:8])),
		flags:      e[1],
		size:       size,
	}
	if e[1]&(flagUnique|flagLine) != 0 {
		end, ok := extensionEnd(e, size)
		if !ok {
			return header{}, errors.New("decode stored run: its extension is cut off")
		}
		h.extension, h.size = e[size:end:end], end
	}
	return h, nil
}

// parseElement sets run to the run of a stored element, its Deliveries as
// stored. The payload shares the element's memory.
func parseElement(names *broker.Decoder, e []byte, run *broker.TaskRun) error {
	h, err := parseHeader(e)
	if err != nil {
		return err
	}
	id := string(h.id)
	if err := names.DecodeWithID(id, e[h.size:], run); err != nil {
		return err
	}
	if run.ID != id {
		return errors.New("decode stored run: its header names another id")
	}
	if err := h.checkPolicies(run); err != nil {
		return err
	}
	run.Deliveries = h.deliveries
	return nil
}

// appendFailure appends a failure as dead letters store it, with its length in
// front: the element follows.
func appendFailure(b []byte, f *broker.Failure) []byte {
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

// timeDigits is the length of the milliseconds that open a dead letter.
const timeDigits = 13

// readDead returns a stored dead letter. An entry that is none is one without a run, a
// kind of failure and a time, so that it is seen and can be deleted.
func readDead(s string) *broker.DeadLetter {
	letter, err := parseDead(s)
	if err != nil {
		letter = &broker.DeadLetter{ID: rawID([]byte(s)), Raw: []byte(s), Failure: broker.Failure{Message: "the stored entry is no dead letter: " + err.Error()}}
	}
	return letter
}

// parseDead returns a stored dead letter: when it died in milliseconds as 13
// digits, its failure, and its element.
func parseDead(s string) (*broker.DeadLetter, error) {
	if len(s) < timeDigits+4 {
		return nil, errors.New("decode dead letter: too short")
	}
	var ms int64
	if _, err := fmt.Sscanf(s[:timeDigits], "%d", &ms); err != nil {
		return nil, errors.New("decode dead letter: no time")
	}
	s = s[timeDigits:]
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
	element := []byte(s[size:])
	dead.Run = new(broker.TaskRun)
	if err := parseElement(new(broker.Decoder), element, dead.Run); err != nil {
		dead.ID, dead.Run, dead.Raw = rawID(element), nil, element
		return dead, nil
	}
	dead.ID = dead.Run.ID
	return dead, nil
}

// millis rounds a time up to whole milliseconds, so that nothing is early.
func millis(d time.Duration) int64 {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return int64(ms)
}
