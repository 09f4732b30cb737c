package wire

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/taskgen/taskgen/broker"
)

// CancelledOpens opens an entry of the outbox that is a run whose end was asked
// for while a session held it that is gone: behind it are the failure with its
// length, and the element.
const CancelledOpens = "-"

// ParseCancelled reads such an entry.
func ParseCancelled(entry string) (failure *broker.Failure, element string, err error) {
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

// GatheringOpens opens an entry of the outbox that is the run that gathers a group.
// While it waits there is a key in its own queue with the entry's token, and
// where its group is: it is queued, or cancelled, in the step that deletes that.
const GatheringOpens = "+"

// TokenDigits is the length of what makes an entry of the outbox distinct,
// before the element.
const TokenDigits = 16

// StoredRunIn returns the element of an entry that is a run, "" if there is none.
func StoredRunIn(entry string) string {
	plain := strings.TrimPrefix(entry, GatheringOpens)
	if len(plain) <= TokenDigits {
		return ""
	}
	return plain[TokenDigits:]
}
