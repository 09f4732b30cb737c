package broker_test

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/broker"
)

func full() broker.TaskRun {
	return broker.TaskRun{
		ID: "id", Task: "task", Queue: "queue", Kind: broker.CPU, Priority: broker.Low, Schema: math.MaxUint32,
		Payload:  []byte{0x81, 0xa1, 'k', 0x01},
		QueuedAt: time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC),
		Due:      time.Date(2200, 12, 31, 23, 59, 59, 999999999, time.UTC),
		Delay:    1, Expire: math.MaxInt64, Keep: time.Hour, KeepParams: true, OwnID: true,
		History: &broker.History{Attempts: []broker.Attempt{
			{Started: time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC), Took: time.Second, Host: "host:1", Kind: broker.FailureFailed, Message: "größer"},
			{Kind: broker.FailureCrashed},
		}, Due: time.Date(2024, 5, 6, 7, 8, 10, 1, time.UTC)},
		Attempt: 5, Deliveries: math.MaxInt32, ParentID: "parent", RootID: "root",
		Rules: &broker.Rules{Unique: "task/unique", UniqueFor: time.Minute, Fair: "fair",
			Limits: []broker.Limit{{Key: "l1", Max: 4}, {Key: "l2", Max: math.MaxInt32, Per: time.Hour}}},
		Links: &broker.Links{Group: "group", GroupQueue: "home", Member: 7, Returned: 3, Awaits: broker.Group{ID: "g2", Queue: "other", Size: broker.MaxGroup, Param: "p", Partial: true},
			Then: []broker.FollowUp{{Param: "p", Keyed: true, Run: &broker.TaskRun{
				ID: "next", Task: "t", Queue: "q", Payload: []byte{0x80},
				Links: &broker.Links{Then: []broker.FollowUp{{Run: &broker.TaskRun{ID: "last", Task: "t", Queue: "q", Payload: []byte{}}}}},
			}}}},
		Headers: map[string]string{"b": "2", "a": "1", "\u00e9": "\u65e5\u672c"},
	}
}

// nested returns a run that gathers a group, the only member of which gathers another, and so
// on, depth groups in all. What follows the innermost run gathers a group too.
func nested(depth int) broker.TaskRun {
	r := broker.TaskRun{ID: fmt.Sprint("at ", depth)[3:], Task: "t", Queue: "q", Payload: []byte{0x80}}
	if depth > 1 {
		inner := nested(depth - 1)
		inner.Links.Group, inner.Links.GroupQueue = "g", "home"
		r.Links = &broker.Links{Awaits: broker.Group{ID: "g", Queue: "home", Size: 1}, Members: []*broker.TaskRun{&inner}}
		return r
	}
	m := &broker.TaskRun{ID: "member", Task: "t", Queue: "q", Payload: []byte{0x80}, Links: &broker.Links{Group: "g"}}
	gathering := &broker.TaskRun{ID: "gathers", Task: "t", Queue: "q", Payload: []byte{0x80},
		Links: &broker.Links{Awaits: broker.Group{ID: "g", Queue: "q", Size: 1}, Members: []*broker.TaskRun{m}}}
	r.Links = &broker.Links{Then: []broker.FollowUp{{Run: gathering}}}
	return r
}

// noPolicies takes the keys of policies, groups and histories out.
func noPolicies(r *broker.TaskRun) {
	r.Rules, r.Links, r.History, r.KeepParams, r.Schema = nil, nil, nil, false, 0
}

func TestEnvelopeRoundTrip(t *testing.T) {
	with := func(edit func(*broker.TaskRun)) broker.TaskRun {
		r := full()
		edit(&r)
		return r
	}
	for name, want := range map[string]broker.TaskRun{
		"every field":         full(),
		"only what it needs":  {ID: "i", Task: "t", Queue: "q"},
		"fewer than 16 keys":  with(func(r *broker.TaskRun) { noPolicies(r); r.Delay, r.Expire = 0, 0 }),
		"16 keys":             with(func(r *broker.TaskRun) { noPolicies(r); r.Delay = 0 }),
		"an empty payload":    {ID: "i", Task: "t", Queue: "q", Payload: []byte{}},
		"a payload of 64 KiB": {ID: "i", Task: "t", Queue: "q", Payload: bytes.Repeat([]byte{0xc1}, 1<<16)},
		"the epoch and a bit": {ID: "i", Task: "t", Queue: "q", Due: time.Unix(0, 1).UTC()},
		"the most limits": with(func(r *broker.TaskRun) {
			r.EnsureRules().Limits = slices.Repeat([]broker.Limit{{Key: strings.Repeat("k", broker.MaxKey), Max: 1, Per: 1}}, broker.MaxLimits)
		}),
		"groups nested as deep as can be": nested(broker.MaxNesting),
		"the longest history": with(func(r *broker.TaskRun) {
			long := broker.Attempt{
				Started: time.Unix(1, 0).UTC(), Took: math.MaxInt64, Kind: broker.FailureFailed,
				Host: strings.Repeat("h", broker.MaxHost), Message: strings.Repeat("é", broker.MaxAttemptMessage/2),
			}
			r.History = &broker.History{Attempts: slices.Repeat([]broker.Attempt{long}, broker.MaxHistory)}
		}),
		"32 headers": with(func(r *broker.TaskRun) {
			r.Headers = map[string]string{}
			for i := range broker.MaxHeaders {
				r.Headers[fmt.Sprint(i)] = strings.Repeat("x", broker.MaxHeader-2)
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, want.Validate(), "Validate")
			b, err := want.MarshalBinary()
			require.NoError(t, err, "MarshalBinary")
			got := broker.TaskRun{ID: "old", Headers: map[string]string{"old": "old"}, Attempt: 9, Receipt: "old"}
			require.NoError(t, got.UnmarshalBinary(b), "UnmarshalBinary of % x", b[:min(len(b), 64)])
			require.Equal(t, want, got, "the run read back")

			clear(b) // what was read is a copy
			require.Equal(t, want, got, "the run after its bytes were cleared")
		})
	}
}

// TestEnvelopeBytes holds the stored form down: other versions and languages
// read it.
func TestEnvelopeBytes(t *testing.T) {
	r := broker.TaskRun{
		ID: "i", Task: "t", Queue: "q", Kind: broker.CPU, Priority: broker.Low, Attempt: 2,
		QueuedAt: time.Unix(1, 5), Headers: map[string]string{"k": "v"}, Payload: []byte{0x80},
		Receipt: "not stored",
	}
	b, err := r.AppendBinary([]byte("before"))
	require.NoError(t, err)
	const want = "before\x01\x89\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1k\x01\xa1p\xff\xa1c\xce\x3b\x9a\xca\x05" +
		"\xa1a\x02\xa1h\x81\xa1k\xa1v\xa1b\xc4\x01\x80"
	require.Equal(t, []byte(want), b, "stored form")

	every := full()
	b, err = every.MarshalBinary()
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, msgpack.Unmarshal(b[1:], &m), "the map read by msgpack/v5")
	require.Len(t, m, 35, "keys of a run with every field set")
	require.Equal(t, every.Payload, m["b"], "payload read by msgpack/v5")
}

// TestGroupsInOneAnotherAreBounded stores runs that are refused, since what encodes them does
// not look.
func TestGroupsInOneAnotherAreBounded(t *testing.T) {
	member := func(i int) *broker.TaskRun {
		return &broker.TaskRun{ID: "m", Task: "t", Queue: "q", Links: &broker.Links{Group: "g", Member: i}}
	}
	gathers := func(n int, m ...*broker.TaskRun) broker.TaskRun {
		return broker.TaskRun{ID: "i", Task: "t", Queue: "q", Links: &broker.Links{Awaits: broker.Group{ID: "g", Queue: "q", Size: n}, Members: m}}
	}
	many := func(n int) []*broker.TaskRun {
		runs := make([]*broker.TaskRun, n)
		for i := range runs {
			runs[i] = member(i)
		}
		return runs
	}
	wide := make([]*broker.TaskRun, broker.MaxRuns/broker.MaxGroup)
	for i := range wide {
		inner := gathers(broker.MaxGroup, many(broker.MaxGroup)...)
		inner.Links.Group, inner.Links.Member = "g", i
		wide[i] = &inner
	}
	for why, run := range map[string]broker.TaskRun{
		"groups are 9 deep":                 nested(broker.MaxNesting + 1),
		"1 members of the group \"g\" of 2": gathers(2, member(0)),
		"is member 1 of group":              gathers(1, member(1)),
		"more than 100000 runs in one":      gathers(len(wide), wide...),
	} {
		b, err := run.MarshalBinary()
		require.NoError(t, err)
		err = new(broker.TaskRun).UnmarshalBinary(b)
		if len(run.Links.Members) == len(wide) {
			require.ErrorIs(t, broker.CheckBatch([]*broker.TaskRun{&run}), broker.ErrBatchTooLarge)
		} else {
			require.ErrorContains(t, run.Validate(), why)
		}
		require.Error(t, err, why)
	}
}

func TestEnvelopeRefusesHostileBytes(t *testing.T) {
	headers := func(n int) string {
		s := fmt.Sprintf("\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1h\xde%c%c", n>>8, n&0xff)
		for i := range n {
			s += fmt.Sprintf("\xa4%04d\xa0", i)
		}
		return s
	}
	deep := func(n int) string {
		s := "\x01\x83\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q"
		for range n {
			s = "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1s\x93\xa0\xc2\xc5" + string([]byte{byte(len(s) >> 8), byte(len(s))}) + s
		}
		return s
	}
	require.NoError(t, new(broker.TaskRun).UnmarshalBinary([]byte(deep(broker.MaxThen))), "follow-ups as deep as is allowed")
	for name, b := range map[string]string{
		"nothing":              "",
		"another version":      "\x02\x80",
		"only a version":       "\x01",
		"not a map":            "\x01\x90",
		"no id":                "\x01\x82\xa1t\xa1t\xa1q\xa1q",
		"empty id":             "\x01\x83\xa1i\xa0\xa1t\xa1t\xa1q\xa1q",
		"a key no string":      "\x01\x81\x01\x01",
		"id no string":         "\x01\x83\xa1i\x01\xa1t\xa1t\xa1q\xa1q",
		"kind out of range":    "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1k\xcd\x01\x00",
		"bytes left over":      "\x01\x83\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\x00",
		"4 GiB of pairs":       "\x01\xdf\xff\xff\xff\xff",
		"4 GiB of payload":     "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1b\xc6\xff\xff\xff\xff",
		"4 GiB of id":          "\x01\x84\xa1i\xdb\xff\xff\xff\xff",
		"4 GiB of limits":      "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1l\xdd\xff\xff\xff\xff",
		"limits not by 3":      "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1l\x91\xa1k",
		"a limit of none":      "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1l\x93\xa1k\x00\x00",
		"4 GiB of follow-ups":  "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1s\xdd\xff\xff\xff\xff",
		"an empty follow-up":   "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1s\x93\xa0\xc2\xc4\x00",
		"follow-ups very deep": deep(broker.MaxThen + 1),
		"4 GiB of history":     "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa2ha\xdd\xff\xff\xff\xff",
		"history not by 5":     "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa2ha\x91\x00",
		"history of numbers":   "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa2ha\x95\x00\x00\x00\x00\x00",
		"long history, cut":    "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa2ha\xdc\xff\xff" + strings.Repeat("\x00\x00\xa0\xa0\xa0", 1000),
		"4 GiB of headers":     "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1h\xdf\xff\xff\xff\xff",
		"33 headers":           headers(broker.MaxHeaders + 1),
		"nested very deep":     "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1z" + strings.Repeat("\x91", 1<<20) + "\x01",
		"nested and cut":       "\x01\x81\xa1z" + strings.Repeat("\x81\xa1a", 1000),
		"a reserved byte":      "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1z\xc1",
		"a timestamp as time":  "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1u\xd6\xff\x00\x00\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			var r broker.TaskRun
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := r.UnmarshalBinary([]byte(b))
			runtime.ReadMemStats(&after)
			require.ErrorContains(t, err, "decode run: ", "UnmarshalBinary")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "bytes allocated for %d bytes of input", len(b))
		})
	}
}

func TestEnvelopeCutAnywhere(t *testing.T) {
	r := full()
	b, err := r.MarshalBinary()
	require.NoError(t, err)
	for n := range b {
		require.Error(t, new(broker.TaskRun).UnmarshalBinary(b[:n]), "the first %d of %d bytes", n, len(b))
	}
}

func TestEnvelopeSkipsWhatItDoesNotKnow(t *testing.T) {
	b := []byte("\x01\x85\xa1i\xa1i\xa5newer\x92\x01\x81\xa1x\xc0\xa1t\xa1t\xa1q\xa1q\xa1b\xa4text")
	var r broker.TaskRun
	require.NoError(t, r.UnmarshalBinary(b), "an envelope with a key of a newer version")
	require.Equal(t, broker.TaskRun{ID: "i", Task: "t", Queue: "q", Payload: []byte("text")}, r)
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*broker.TaskRun)
		want string
	}{
		"no id": {func(r *broker.TaskRun) { r.ID = "" }, "the id is empty"},
		"long id": {func(r *broker.TaskRun) { r.ID = strings.Repeat("x", broker.MaxID+1) },
			fmt.Sprintf("the id has %d bytes, at most %d are allowed", broker.MaxID+1, broker.MaxID)},
		"space in task":     {func(r *broker.TaskRun) { r.Task = "a b" }, `the task name "a b" is not printable ASCII without spaces`},
		"escape in queue":   {func(r *broker.TaskRun) { r.Queue = "\x1b[2J" }, `the queue name "\x1b[2J" is not printable ASCII without spaces`},
		"newline in parent": {func(r *broker.TaskRun) { r.ParentID = "\n" }, `the parent id "\n" is not printable`},
		"delete in root":    {func(r *broker.TaskRun) { r.RootID = "\x7f" }, `the root id "\x7f" is not printable`},
		"long header": {func(r *broker.TaskRun) { r.Headers = map[string]string{"k": strings.Repeat("v", 1024)} },
			`header "k" has 1025 bytes, at most 1024 are allowed`},
		"header without key": {func(r *broker.TaskRun) { r.Headers = map[string]string{"": "v"} }, `header "" has no key`},
		"header not UTF-8":   {func(r *broker.TaskRun) { r.Headers = map[string]string{"k": "\xff"} }, `header "k" has no key or is not UTF-8`},
		"unknown kind":       {func(r *broker.TaskRun) { r.Kind = 2 }, "unknown kind 2"},
		"unknown priority":   {func(r *broker.TaskRun) { r.Priority = -2 }, "unknown priority -2"},
		"negative delay":     {func(r *broker.TaskRun) { r.Delay = math.MinInt64 }, "is negative"},
		"negative attempt":   {func(r *broker.TaskRun) { r.Attempt = -1 }, "attempts or deliveries is negative"},
		"long unique key": {func(r *broker.TaskRun) { r.EnsureRules().Unique = strings.Repeat("x", broker.MaxKey+1) },
			fmt.Sprintf("the unique key has %d bytes, at most %d are allowed", broker.MaxKey+1, broker.MaxKey)},
		"newline in fair key":  {func(r *broker.TaskRun) { r.EnsureRules().Fair = "\n" }, "the fair key"},
		"limit without key":    {func(r *broker.TaskRun) { r.Rules.OrZero().Limits[0].Key = "" }, "the limit key is empty"},
		"limit of nothing":     {func(r *broker.TaskRun) { r.Rules.OrZero().Limits[1].Max = 0 }, "is not a positive number"},
		"too many limits":      {func(r *broker.TaskRun) { r.EnsureRules().Limits = make([]broker.Limit, broker.MaxLimits+1) }, "5 limits, at most 4 are allowed"},
		"negative unique time": {func(r *broker.TaskRun) { r.EnsureRules().UniqueFor = -1 }, "unique time is negative"},
		"member out of range":  {func(r *broker.TaskRun) { r.EnsureLinks().Member = broker.MaxGroup }, "member 10000 of a group"},
		"group of no queue":    {func(r *broker.TaskRun) { r.EnsureLinks().Awaits.Queue = "" }, "the awaited group's queue name is empty"},
		"too many follow-ups": {func(r *broker.TaskRun) {
			r.EnsureLinks().Then = slices.Repeat([]broker.FollowUp{{Run: &broker.TaskRun{ID: "i", Task: "t", Queue: "q"}}}, broker.MaxThen+1)
		}, "17 follow-ups"},
		"follow-up of nothing": {func(r *broker.TaskRun) { r.Links.OrZero().Then[0].Run = nil }, "a follow-up without a run"},
		"bad follow-up":        {func(r *broker.TaskRun) { r.Links.OrZero().Then[0].Run.Links.OrZero().Then[0].Run.Task = "" }, `follow-up "last": the task name is empty`},
		"long history": {func(r *broker.TaskRun) { r.History.Attempts = make([]broker.Attempt, broker.MaxHistory+1) },
			"a history of 11 attempts, at most 10 are allowed"},
		"long message": {func(r *broker.TaskRun) {
			r.History.Attempts[0].Message = strings.Repeat("x", broker.MaxAttemptMessage+1)
		}, "an attempt of its history"},
		"long host":            {func(r *broker.TaskRun) { r.History.Attempts[0].Host = strings.Repeat("x", broker.MaxHost+1) }, "an attempt of its history"},
		"message not UTF-8":    {func(r *broker.TaskRun) { r.History.Attempts[0].Message = "\xff" }, "an attempt of its history"},
		"attempt took less":    {func(r *broker.TaskRun) { r.History.Attempts[0].Took = -1 }, "an attempt of its history"},
		"due again in 1969":    {func(r *broker.TaskRun) { r.History.Due = time.Unix(-1, 0) }, "due again in the year 1969"},
		"attempt in 1969":      {func(r *broker.TaskRun) { r.History.Attempts[0].Started = time.Unix(-1, 0) }, "an attempt of its history"},
		"due in year 9999":     {func(r *broker.TaskRun) { r.Due = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, "due in the year 9999"},
		"queued in year -1":    {func(r *broker.TaskRun) { r.QueuedAt = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) }, "queued in the year -1"},
		"due in 1969 up there": {func(r *broker.TaskRun) { r.Due = time.Unix(-1, 0) }, "due in the year 1969"},
	} {
		t.Run(name, func(t *testing.T) {
			r := full()
			c.edit(&r)
			require.ErrorContains(t, r.Validate(), c.want)
		})
	}
	r := full()
	r.ID = strings.Repeat("~", broker.MaxID)
	require.NoError(t, r.Validate(), "a run at its limits")
}

// FuzzEnvelope reads any bytes without panic; what it can read it writes and
// reads back as the same.
func FuzzEnvelope(f *testing.F) {
	every := full()
	b, err := every.MarshalBinary()
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte("\x01\x83\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q"))
	f.Add([]byte("\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa2ha\x95\xff\xff\xa2\xff\xc3\xa1k\xa1\xc3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second broker.TaskRun
		if first.UnmarshalBinary(b) != nil {
			return
		}
		again, err := first.MarshalBinary()
		require.NoError(t, err, "MarshalBinary of what was read")
		require.NoError(t, second.UnmarshalBinary(again), "UnmarshalBinary of what was written")
		twice, err := second.MarshalBinary()
		require.NoError(t, err, "MarshalBinary again")
		require.Equal(t, again, twice, "bytes written of a run read twice")
	})
}
