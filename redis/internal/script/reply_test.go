package script

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// TestRepliesAreParsed parses replies as scripts return them, and refuses others.
func TestRepliesAreParsed(t *testing.T) {
	finish, err := ParseFinish([]any{
		[]any{int64(1), int64(-1), int64(2), int64(5)}, []any{"waiter", "run-1", "other", "run-2"}, int64(3), int64(4),
		[]any{int64(2), int64(7), "ERR x", int64(1), int64(BatchStays), "ERR y", int64(1), int64(StillListed), "ERR l", int64(0), int64(NotTrimmed), "ERR z"},
	}, 2)
	require.NoError(t, err)
	require.Equal(t, FinishReply{
		Fenced:  []RunPlace{{Batch: 0, Index: PlainRuns}, {Batch: 1, Index: 5}},
		Waiters: []Waiter{{"waiter", "run-1"}, {"other", "run-2"}}, Sent: true, Trimmed: 4,
		Failures: []FinishFailure{
			{RunPlace{1, 7}, resp.Error("ERR x")}, {RunPlace{0, BatchStays}, resp.Error("ERR y")},
			{RunPlace{0, StillListed}, resp.Error("ERR l")}, {RunPlace{-1, NotTrimmed}, resp.Error("ERR z")},
		},
	}, finish)
	_, err = ParseFinish([]any{[]any{int64(3), int64(0)}, nil, nil, nil, nil}, 2)
	require.EqualError(t, err, "unexpected batch 3 in the reply of finish.lua")
	for _, failure := range [][]any{
		{int64(0), int64(1), "ERR"}, {int64(0), int64(BatchStays), "ERR"}, {int64(1), int64(NotTrimmed), "ERR"},
		{int64(1), int64(PlainRuns), "ERR"}, {int64(1), int64(-5), "ERR"}, {int64(-1), int64(0), "ERR"}, {int64(2), int64(0), "ERR"},
	} {
		_, err = ParseFinish([]any{nil, nil, nil, nil, failure}, 1)
		require.ErrorContains(t, err, "in the reply of finish.lua", "%v", failure)
	}

	enqueue, err := ParseEnqueue([]any{int64(0), "ERR x", []any{int64(2), "run-1"}}, 3)
	require.NoError(t, err)
	require.Equal(t, []EnqueueReply{{Status: Stored}, {Status: NotStored, Err: resp.Error("ERR x")}, {Status: KeyLives, Live: []LiveRun{{1, "run-1"}}}}, enqueue)
	_, err = ParseEnqueue([]any{int64(0)}, 2)
	require.Error(t, err)

	take, err := ParseTake([]any{int64(TakeQuiet), "stored"})
	require.NoError(t, err)
	require.Equal(t, &TakeReply{Next: TakeQuiet, Stored: [][]byte{[]byte("stored")}}, take)

	expired, err := ParseExpired([]any{"0", []any{"s:1"}, int64(1), int64(2), int64(3)})
	require.NoError(t, err)
	require.Equal(t, ExpiredReply{Batches: []string{"s:1"}, Outbox: 1, Pending: 2, Stages: 3}, expired)

	renew, err := ParseRenew([]any{"1.2", "-", []any{"7", "x"}, []any{int64(5)}})
	require.NoError(t, err)
	require.Equal(t, RenewReply{Lost: "1.2", TooMany: true, Numbers: []int64{7}, Ended: []int64{5}}, renew)

	stage, err := ParseStage([]any{int64(-2), "run-1", int64(1), ""}, 2)
	require.NoError(t, err)
	require.Equal(t, StageReply{InWay: []RunInWay{{1, "run-1", true}, {0, "", false}}}, stage)

	record, err := ParseRecord([]any{"record", ""})
	require.NoError(t, err)
	require.Equal(t, RecordReply{Found: true, Record: "record"}, record)
	record, err = ParseRecord(int64(1))
	require.NoError(t, err)
	require.Equal(t, RecordReply{Staged: true}, record)
	record, err = ParseRecord(nil)
	require.NoError(t, err)
	require.Equal(t, RecordReply{}, record)

	require.Equal(t, PendingReply{Holder: "run-1"}, ParsePending("run-1"))
	require.Equal(t, PendingReply{Undecided: true}, ParsePending(int64(2)))

	put, err := ParsePutSchedule([]any{"1", "2", "3", ""})
	require.NoError(t, err)
	require.Equal(t, PutScheduleReply{Revision: "1", Since: "2", Last: "3", Lost: true}, put)

	require.Equal(t, []RepairedKey{{1, "list", "q:broken:1"}}, ParseRepair([]any{[]any{int64(2), "list", "q:broken:1"}, []any{int64(3), "", "0"}}, 2))

	watch, err := ParseWatch([]any{[]any{int64(2), int64(3)}, []any{int64(1), "it is no list"}}, 2)
	require.NoError(t, err)
	require.Equal(t, WatchReply{Waiting: []int{1}, Broken: []WatchFailure{{0, "it is no list"}}}, watch)

	for name, parse := range map[string]func(any) error{
		"auditbatches":   func(v any) error { _, err := ParseAuditBatches(v); return err },
		"auditbury":      func(v any) error { _, err := ParseAuditBury(v); return err },
		"auditcopy":      func(v any) error { _, err := ParseAuditCopy(v); return err },
		"auditowners":    func(v any) error { _, err := ParseAuditOwners(v); return err },
		"control":        ParseControl,
		"finish":         func(v any) error { _, err := ParseFinish(v, 1); return err },
		"endwaiting":     func(v any) error { _, err := ParseEndWaiting(v); return err },
		"enqueue":        func(v any) error { _, err := ParseEnqueue(v, 1); return err },
		"take":           func(v any) error { _, err := ParseTake(v); return err },
		"expired":        func(v any) error { _, err := ParseExpired(v); return err },
		"giveback":       func(v any) error { _, err := ParseGiveback(v); return err },
		"findwaiting":    func(v any) error { _, _, err := ParseFindWaiting(v); return err },
		"cancelinflight": func(v any) error { _, err := ParseCancelInFlight(v); return err },
		"record":         func(v any) error { _, err := ParseRecord(v); return err },
		"renew":          func(v any) error { _, err := ParseRenew(v); return err },
		"outbox":         func(v any) error { _, _, err := ParseOutbox(v); return err },
		"putschedule":    func(v any) error { _, err := ParsePutSchedule(v); return err },
		"watch":          func(v any) error { _, err := ParseWatch(v, 1); return err },
	} {
		require.EqualError(t, parse("odd"), "unexpected reply string of "+name+".lua")
		for _, odd := range []any{nil, []any{}, []any{[]any{}}, []any{nil, nil, nil}, int64(-7), 1.5, true} {
			_ = parse(odd) // must not panic
		}
	}
	_, _, err = ParseAuditPage("odd")
	require.EqualError(t, err, "unexpected reply string of auditcounts.lua or auditturns.lua")
}

// TestRepliesOfOneNumberAreParsed parses replies that are a number, and refuses numbers that
// the scripts do not return.
func TestRepliesOfOneNumberAreParsed(t *testing.T) {
	yes := func(parse func(any) (bool, error)) func(any) (any, error) {
		return func(v any) (any, error) { return parse(v) }
	}
	number := func(parse func(any) (int64, error)) func(any) (any, error) {
		return func(v any) (any, error) { return parse(v) }
	}
	reserved := func(v any) (any, error) { return ParseReserveGroup(v) }
	for name, c := range map[string]struct {
		parse func(any) (any, error)
		good  map[int64]any
	}{
		"markbegun":        {yes(ParseMarkBegun), map[int64]any{0: false, 1: true}},
		"freeunique":       {yes(ParseFreeUnique), map[int64]any{0: false, 1: true}},
		"auditcopy":        {yes(ParseAuditCopy), map[int64]any{0: false, 1: true}},
		"group to reserve": {reserved, map[int64]any{0: GroupReply{}, 1: GroupReply{Other: true}, 2: GroupReply{Over: true}}},
		"group to send":    {yes(ParseSendGroup), map[int64]any{0: false, 2: true}},
		"group to drop":    {yes(ParseDropGroup), map[int64]any{0: false, 1: true, 2: false}},
		"spare":            {number(ParseSpare), map[int64]any{0: int64(0), 9: int64(9)}},
		"auditbury":        {number(ParseAuditBury), map[int64]any{0: int64(0), 9: int64(9)}},
		"auditowners":      {number(ParseAuditOwners), map[int64]any{-1: int64(-1), 9: int64(9)}},
	} {
		for reply, want := range c.good {
			got, err := c.parse(reply)
			require.NoError(t, err, "%s: %d", name, reply)
			require.Equal(t, want, got, "%s: %d", name, reply)
		}
		for _, odd := range []any{nil, "odd", []any{}, int64(-2)} {
			_, err := c.parse(odd)
			require.ErrorContains(t, err, "unexpected reply", "%s: %v", name, odd)
		}
	}
	for reply, want := range map[any]RestoreTickReply{
		int64(0): {Gone: true}, int64(1): {}, "": {Lost: true}, "junk": {Lost: true, Found: "junk"},
	} {
		got, err := ParseRestoreTick(reply)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, odd := range []any{nil, int64(2), []any{}} {
		_, err := ParseRestoreTick(odd)
		require.ErrorContains(t, err, "of restoretick.lua", "%v", odd)
	}
	require.NoError(t, ParseControl(int64(0)))
	require.EqualError(t, ParseControl(int64(1)), "unexpected reply 1 of control.lua")
	batches, err := ParseAuditBatches([]any{int64(1), int64(2), int64(3)})
	require.NoError(t, err)
	require.Equal(t, AuditBatchesReply{Unlisted: 1, Missing: 2, Stray: 3}, batches)
}
