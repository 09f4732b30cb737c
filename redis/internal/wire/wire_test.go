package wire

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// TestTypesOfKeysAgree compares the kinds of keys that scripts expect with the types that
// errors name.
func TestTypesOfKeysAgree(t *testing.T) {
	q := NewQueueKeys("p", "q")
	for rest, kind := range KindsOfKeys {
		require.Equal(t, TypeOfKind(kind), TypeOf("p", q.Base+rest), rest)
	}
	for _, key := range q.All() {
		require.NotEmpty(t, TypeOf("p", key), key)
		require.False(t, q.Unknown(key), key)
	}
	for _, key := range []string{q.Batch("s:1"), q.Done("s:1"), q.Owner("id"), q.Record("id"), q.Unique("u"), q.Group("g"), q.PendingRun("id"),
		q.Staging("stage:s"), q.Stub("stage:s"), q.Raised("s"), q.Spared("id"), q.Newer("id"), q.Lost("s"), q.Ended("w"), q.Cancels("s"), q.Progress("id"), q.Tally(1),
	} {
		kind := KindOfMore(key[len(q.Base):])
		require.Equal(t, TypeOfKind(kind), TypeOf("p", key), key)
		require.False(t, q.Unknown(key), key)
	}
	for rest := range KindsOfKeys {
		require.False(t, q.Unknown(q.Base+rest), rest)
	}
	for _, key := range []string{q.Base + "later", q.Base + "later:x", q.Dead + ":broken:1"} {
		require.True(t, q.Unknown(key), key)
	}
}

// TestKeysAreAsDocumented compares the types of keys with the table of docs/wire.md, which has
// all of them.
func TestKeysAreAsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/wire.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "\n| rest | type | holds |\n")
	require.True(t, found)
	q := NewQueueKeys("p", "q")
	types := map[string]string{"list": "list", "set": "set", "hash": "hash", "string": "string", "sorted set": "zset"}
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 {
			if documented["delayed"] {
				break // the table is over
			}
			continue
		}
		for rest := range strings.FieldsFuncSeq(strings.TrimPrefix(cells[0], "| "), func(r rune) bool { return r == '`' || r == ' ' }) {
			if strings.HasSuffix(rest, ">") && !strings.Contains(rest, "<") {
				continue // the second word of <unique key>
			}
			if kind, _, several := strings.Cut(rest, "<"); several {
				rest = kind + "x"
				documented[kind] = true
			}
			documented[rest] = true
			require.Equal(t, types[cells[1]], TypeOf("p", q.Base+rest), rest)
			require.False(t, q.Unknown(q.Base+rest), rest)
		}
	}
	for rest := range KindsOfKeys {
		require.True(t, documented[rest], "%s is not documented", rest)
	}
	for kind := range kindsOfMore {
		require.True(t, documented[kind], "%s is not documented", kind)
	}
}

func TestEscapedNamesAreReversible(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"q", "a:b", "a%3Ab", "{a}", "%", "%%7B", "a}:b", "ä{"} {
		escaped := escape(name)
		require.Equal(t, name, Unescape(escaped))
		require.Equal(t, name, Unescape(QueueOf(NewQueueKeys("p", name).Base)))
		require.Empty(t, seen[escaped], "%q and %q have the same keys", name, seen[escaped])
		seen[escaped] = name
	}
}

func TestStoredRunsAreReadAsWritten(t *testing.T) {
	run := &broker.TaskRun{ID: "id", Task: "task", Queue: "q", Kind: broker.CPU, Priority: broker.High, OwnID: true, Keep: time.Hour, Deliveries: 3, Payload: []byte("payload")}
	run.EnsureRules().Unique = "key"
	run.Rules.Limits = []broker.Limit{{Key: "limit", Max: 2, Per: time.Minute}}
	stored, err := AppendRun(nil, run)
	require.NoError(t, err)
	h, err := ParseHeader(stored)
	require.NoError(t, err)
	require.Equal(t, "id", string(h.ID))
	require.Equal(t, "key", h.Unique())
	require.Equal(t, 4, ReadyList(run))
	got := new(broker.TaskRun)
	require.NoError(t, ParseRun(new(broker.Decoder), stored, got))
	require.Equal(t, run.Rules, got.Rules)
	require.Equal(t, 3, got.Deliveries)
	require.Equal(t, "payload", string(got.Payload))
	for n := range stored {
		require.Error(t, ParseRun(new(broker.Decoder), stored[:n], new(broker.TaskRun)), "cut off after %d bytes", n)
	}
}

func TestHostileRecordsAreRefused(t *testing.T) {
	run := &broker.TaskRun{ID: "id", Task: "task", QueuedAt: time.Unix(1, 2).UTC(), KeepParams: true, Payload: []byte("payload")}
	run.History = run.History.Add(broker.Attempt{Started: time.Unix(3, 0), Took: time.Second, Host: "host:1", Kind: broker.FailureFailed, Message: "bad"})
	stored := AppendEnd(StartRecordAt(nil, broker.StateFailed, time.UnixMilli(4)), run, nil, &broker.Failure{Kind: broker.FailureFailed})
	var record broker.Record
	require.NoError(t, ParseRecord(stored, &record))
	require.Equal(t, time.UnixMilli(4).UTC(), record.EndedAt)
	require.Equal(t, run.History.Attempts, record.Attempts)
	require.Equal(t, run.Payload, record.Payload)
	for n := range stored {
		require.Error(t, ParseRecord(stored[:n], new(broker.Record)), "cut off after %d bytes", n)
	}
	require.Error(t, ParseRecord(append(stored, 'x'), new(broker.Record)), "more behind the map")

	ofHost := func(host string) []byte {
		return AppendRecord(append([]byte("r0000000000005"), host...), run, nil)
	}
	for host, want := range map[string]string{"\x00": "", "\x01h": "h", "\x02\xff\xff": "?", "\x7f" + strings.Repeat("h", 127): strings.Repeat("h", 127)} {
		record = broker.Record{}
		require.NoError(t, ParseRecord(ofHost(host), &record), "%q", host)
		require.Equal(t, want, record.Host)
		require.Equal(t, time.UnixMilli(5).UTC(), record.StartedAt)
		require.Equal(t, "task", record.Task)
	}
	require.Error(t, ParseRecord([]byte("r0000000000005\x7fh"), new(broker.Record)), "a host that is cut off")
	record = broker.Record{}
	require.NoError(t, ParseRecord([]byte("sxxxxxxxxxxxxx\x80"), &record), "no time")
	require.Zero(t, record.EndedAt)
}
