package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/taskgen/taskgen/broker"
)

// A stored run is a header, which scripts read and patch by offset, and the
// run's envelope, without the id. The header:
//
//	0     version
//	1     flags, and in the upper four bits the notes of recoveries
//	2     kind: 0 io, 1 cpu
//	3     priority: 0 low, 1 medium, 2 high
//	4..7  deliveries that have ended, big endian; the envelope's do not count
//	8     length of the id
//	9..   the id
//
// and behind it, if flagUnique or flagLine is set, the extension (policies.go).
const (
	storedRunVersion = 1
	lastVersion      = 31 // there can be: text opens with a greater byte
	HeaderSize       = 9

	flagRecord = 1 // the run has a record
	flagOwnID  = 2 // the run's id has a key
	flagUnique = 4 // the run has a unique key
	FlagWaits  = 8 // the run has a fair value or limits

	// The flags' upper four bits are zero of a run that no recovery gave back.
	// After one they are 1, raised by each that does not count as a delivery, and
	// hasBegun from when the run is about to begin until the next.
	PastShift = 4
	HasBegun  = 15
)

// ReadyList returns the number of a run's ready list: 1 to 6 for io high, medium, low,
// cpu high, medium, low.
func ReadyList(r *broker.TaskRun) int {
	kind, priority := kindAndPriority(r)
	return int(kind)*3 + 3 - int(priority)
}

// kindAndPriority returns the two bytes of a header.
func kindAndPriority(r *broker.TaskRun) (kind, priority byte) {
	if r.Kind == broker.CPU {
		kind = 1
	}
	return kind, byte(1 + min(max(r.Priority, broker.Low), broker.High))
}

// AppendRun appends a run as it is stored. Its Deliveries are the ended ones.
func AppendRun(b []byte, r *broker.TaskRun) ([]byte, error) {
	kind, priority := kindAndPriority(r)
	var flags byte
	if r.Keep > 0 {
		flags |= flagRecord
	}
	if r.OwnID {
		flags |= flagOwnID
	}
	flags |= policyFlags(r)
	b = append(b, storedRunVersion, flags, kind, priority)
	b = binary.BigEndian.AppendUint32(b, uint32(min(max(r.Deliveries, 0), math.MaxUint32)))
	b = append(append(b, byte(len(r.ID))), r.ID...)
	if flags&(flagUnique|FlagWaits) != 0 {
		b = appendExtension(b, r)
	}
	named := *r
	named.ID = "" // the header has it
	return named.AppendBinary(b)
}

// Header is the part of a stored run that scripts read.
type Header struct {
	ID         []byte
	Record     bool
	OwnID      bool
	deliveries int
	extension  []byte // nil if it has none
	Flags      byte
	Size       int
}

// ParseHeader reads the header of a stored run, and shares its memory.
func ParseHeader(e []byte) (Header, error) {
	if len(e) > HeaderSize && e[0] > storedRunVersion && e[0] <= lastVersion {
		return Header{}, fmt.Errorf("decode stored run: it is of version %d, this build reads version %d: a newer version of taskgen wrote it; %s", e[0], storedRunVersion, Upgrade)
	}
	if len(e) <= HeaderSize || e[0] != storedRunVersion || len(e) < HeaderSize+int(e[8]) {
		return Header{}, errors.New("decode stored run: it is not of version 1")
	}
	size := HeaderSize + int(e[8])
	h := Header{
		ID:         e[HeaderSize:size:size],
		Record:     e[1]&flagRecord != 0,
		OwnID:      e[1]&flagOwnID != 0,
		deliveries: int(binary.BigEndian.Uint32(e[4:8])),
		Flags:      e[1],
		Size:       size,
	}
	if e[1]&(flagUnique|FlagWaits) != 0 {
		end, ok := extensionEnd(e, size)
		if !ok {
			return Header{}, errors.New("decode stored run: its extension is cut off")
		}
		h.extension, h.Size = e[size:end:end], end
	}
	return h, nil
}

// ParseRun sets run to a stored run, with the stored Deliveries. The payload shares the
// stored run's memory.
func ParseRun(names *broker.Decoder, e []byte, run *broker.TaskRun) error {
	h, err := ParseHeader(e)
	if err != nil {
		return err
	}
	id := string(h.ID)
	if err := names.DecodeWithID(id, e[h.Size:], run); err != nil {
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

// Upgrade is the next step in errors about data of a newer version.
const Upgrade = "upgrade, then queue it again (dead retry)"

// NewerID returns the id of a stored run that was read with an error, and whether a
// newer version can read the run and scripts can put it back.
func NewerID(stored []byte, why error) (string, bool) {
	h, err := ParseHeader(stored)
	if err != nil || !errors.Is(why, broker.ErrNewer) || stored[2] > 1 || stored[3] > 2 {
		return "", false
	}
	return string(h.ID), true
}

// Unique returns the unique key in the extension, "" for none.
func (h *Header) Unique() string {
	e := h.extension
	if h.Flags&flagUnique == 0 || len(e) < 3 || len(e) < 4+int(e[2]) {
		return ""
	}
	e = e[3+int(e[2]):]
	if len(e) < 1+int(e[0]) {
		return ""
	}
	return string(e[1 : 1+int(e[0])])
}

// checkPolicies compares the extension with the run's envelope. They must agree, or
// scripts would count other places than a consumer gives back.
func (h *Header) checkPolicies(r *broker.TaskRun) error {
	flags := policyFlags(r)
	if flags == 0 && h.extension == nil {
		return nil
	}
	if flags != h.Flags&(flagUnique|FlagWaits) || !bytes.Equal(h.extension, appendExtension(nil, r)) {
		return errors.New("decode stored run: its extension says otherwise than its envelope")
	}
	return nil
}
