package wire

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/taskgen/taskgen/broker"
)

// CancelledOpens begins an entry of the outbox whose run has to end: it was cancelled
// while a session held it that is gone. The length of the failure, the failure and the
// stored run follow.
const CancelledOpens = "-"

// ParseCancelled reads such an entry.
func ParseCancelled(entry string) (failure *broker.Failure, stored string, err error) {
	const head = 1 + 4
	size := 0
	if len(entry) >= head {
		size = int(binary.BigEndian.Uint32([]byte(entry[1:head])))
	}
	if len(entry) < head || size > len(entry)-head {
		return nil, "", errors.New("decode entry of the outbox: cut off")
	}
	failure = new(broker.Failure)
	return failure, entry[head+size:], parseFailureFields([]byte(entry[head:head+size]), failure)
}

// GatheringOpens begins an entry of the outbox whose run gathers a group. While that
// run is pending, its own queue has a key with the entry's token and the place of the
// group. The run is queued or cancelled in the step that deletes this key.
const GatheringOpens = "+"

// GatheredCloses ends the token in the name of the key by which a queue knows that it has got
// such an entry of another queue's outbox.
const GatheredCloses = "!"

// EndedOpens begins an entry of the outbox that ends a member of a group that another queue
// keeps. The length and the name of that queue follow, the length and the id of the group, the
// member's place, and how it ended (AppendMember).
const EndedOpens = "="

// GatheredOpens begins an entry of the outbox by which the queue that keeps a group forgets it: the
// run that gathered the group has ended. The length and the name of that queue follow, and the
// length and the id of the group. What is behind these has no meaning.
const GatheredOpens = "~"

// AppendGathered appends such an entry.
func AppendGathered(b []byte, queue, group string) []byte {
	b = append(append(append(b, GatheredOpens...), byte(len(queue))), queue...)
	return append(append(b, byte(len(group))), group...)
}

// ParseGathered reads such an entry.
func ParseGathered(entry string) (queue, group string, err error) {
	queue, rest := cutName(entry[min(len(entry), len(GatheredOpens)):])
	if group, _ = cutName(rest); group == "" {
		return "", "", errors.New("decode entry of the outbox: the group to forget is cut off")
	}
	return queue, group, nil
}

// cutName cuts a name behind its length off a text. It returns nothing if there is none.
func cutName(s string) (name, rest string) {
	if s == "" || len(s) <= int(s[0]) {
		return "", ""
	}
	return s[1 : 1+s[0]], s[1+s[0]:]
}

// AppendEnded appends such an entry.
func AppendEnded(b []byte, queue, group string, member int, ended []byte) []byte {
	b = append(append(append(b, EndedOpens...), byte(len(queue))), queue...)
	b = append(append(b, byte(len(group))), group...)
	return append(binary.BigEndian.AppendUint32(b, uint32(member)), ended...)
}

// Ended is what such an entry says.
type Ended struct {
	Queue, Group string
	Member       int
	How          string
}

// ParseEnded reads such an entry.
func ParseEnded(entry string) (e Ended, err error) {
	rest := entry[min(len(entry), len(EndedOpens)):]
	e.Queue, rest = cutName(rest)
	e.Group, rest = cutName(rest)
	if e.Queue == "" || e.Group == "" || len(rest) <= 4 {
		return Ended{}, errors.New("decode entry of the outbox: the end of a member is cut off")
	}
	e.Member, e.How = int(binary.BigEndian.Uint32([]byte(rest))), rest[4:]
	return e, nil
}

// TokenDigits is the length of the token that begins an entry of the outbox.
const TokenDigits = 16

// StoredRunIn returns the stored run of an outbox entry, "" if there is none.
func StoredRunIn(entry string) string {
	plain := strings.TrimPrefix(entry, GatheringOpens)
	if len(plain) <= TokenDigits {
		return ""
	}
	return plain[TokenDigits:]
}
