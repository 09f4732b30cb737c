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
