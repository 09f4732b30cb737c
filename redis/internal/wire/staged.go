package wire

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/broker"
)

// stageHeader is the length of a staged entry before the record.
const stageHeader = 33

// AppendStaged appends the entry of a run in a stage, as unstage.lua describes it.
func AppendStaged(b []byte, run *broker.TaskRun) ([]byte, error) {
	due := FormatDue(run)
	spec, ms := byte('0'), int64(0)
	if due != "" {
		spec = '@'
		if due[0] == '+' {
			spec = '+'
		}
		ms, _ = strconv.ParseInt(strings.TrimPrefix(due, "+"), 10, 64)
	}
	const longest = 9999999999999 // 13 digits
	b = AppendDigits(append(b, '0'+byte(ReadyList(run)), spec), min(max(ms, 0), longest))
	if keep := run.Rules.OrZero().UniqueFor; keep > 0 {
		b = AppendDigits(append(b, 'k'), min(max(Millis(keep), 1), longest))
	} else {
		b = AppendDigits(append(b, 'e'), 0)
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	if run.Keep > 0 {
		record := StartRecord(nil, broker.StateQueued)
		if due != "" {
			record = record[:1]
		}
		b = append(b, AppendRecord(record, run, nil)...)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return AppendRun(b, run)
}

// ParseStaged returns the stored run of a staged entry.
func ParseStaged(entry string) (string, error) {
	if len(entry) < stageHeader || entry[0] < '1' || entry[0] > '6' {
		return "", errors.New("decode staged run: too short, or of no ready list")
	}
	size := int(binary.BigEndian.Uint32([]byte(entry[stageHeader-4 : stageHeader])))
	if size > len(entry)-stageHeader || strings.Trim(entry[2:15]+entry[16:29], "0123456789") != "" {
		return "", errors.New("decode staged run: cut off, or when it is due is no number")
	}
	return entry[stageHeader+size:], nil
}
