package script

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// TestScriptsSayWhatTheyTake: each uses all names of its keys and arguments, and no other,
// and opens with them.
func TestScriptsSayWhatTheyTake(t *testing.T) {
	s, err := Load()
	require.NoError(t, err)
	keys := wire.NewQueueKeys("", "")
	q := &keys
	for _, l := range s.list(q) {
		file, err := files.ReadFile(l.file + ".lua")
		require.NoError(t, err)
		opens := headerOf(string(file))
		args, err := argNames(l.args)
		require.NoError(t, err)
		for _, part := range []string{"-- KEYS  ", "-- ARGV  ", "-- Returns "} {
			require.Contains(t, opens, part, l.file)
		}
		for _, name := range append(keyNames(q, l.keys), args...) {
			require.Regexp(t, `\b`+name+`\b`, opens, l.file)
		}
	}
}

// headerOf returns the comment that a script opens with.
func headerOf(file string) string {
	var header strings.Builder
	for line := range strings.Lines(file) {
		if !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, "#!") || strings.HasPrefix(line, "-- include ") {
			break
		}
		header.WriteString(line)
	}
	return header.String()
}

func TestNamesOfAScriptBecomePlaces(t *testing.T) {
	keys := []string{"delayed", "ready", "ready", "ready", "dead"}
	args := []string{"session", "number"}
	for _, c := range []struct{ source, sent, err string }{
		{source: "f(K.delayed, K.dead, K.ready[2], A.number, A.session)", sent: "f(KEYS[1], KEYS[5], KEYS[3], ARGV[2], ARGV[1])"},
		{source: "f(K.delayed, K.dead, K.ready[list + 1], A.number, A.session)", sent: "f(KEYS[1], KEYS[5], KEYS[1 + list + 1], ARGV[2], ARGV[1])"},
		{source: "-- K.none\nf(K.delayed, K.dead, K.ready[1], A.number, A.session, #K, #A, #A.number, 'K.none', self.K.x)",
			sent: "-- K.none\nf(KEYS[1], KEYS[5], KEYS[2], ARGV[2], ARGV[1], 5, 2, #ARGV[2], 'K.none', self.K.x)"},
		{source: "\nf(K.delay)", err: "line 2: K.delay is none of its names: delayed ready ready ready dead"},
		{source: "f(A.word)", err: "line 1: A.word is none of its names: session number"},
		{source: "f(K.ready)", err: "line 1: K.ready is 3: behind it has to be which one, in brackets"},
		{source: "f(K.ready[4])", err: "line 1: K.ready[4]: there are 3"},
		{source: "f(K.delayed, K.ready[1], A.number)", err: "it does not use K.dead, A.session"},
		{source: "f(OP.NONE)", err: "line 1: OP.NONE is no constant"},
	} {
		sent, err := resolve(c.source, keys, args)
		if c.err != "" {
			require.EqualError(t, err, c.err)
			continue
		}
		require.NoError(t, err, c.source)
		require.Equal(t, c.sent, sent)
	}
	sent, err := resolve("f(OP.FREE_ID, INDEX.BATCH_STAYS)", nil, nil)
	require.NoError(t, err)
	require.Equal(t, "f('i', -2)", sent)
}

type swapped struct{ First, Second string }

func (s *swapped) Append(args []any) []any { return append(args, s.Second, s.First) }

type short struct{ First, Second string }

func (s *short) Append(args []any) []any { return append(args, s.First) }

type named struct {
	ID      string
	AheadIO int
	OwnID   bool
	IOLeft  []byte
}

func (s *named) Append(args []any) []any {
	return append(args, s.ID, s.AheadIO, yes(s.OwnID), s.IOLeft)
}

func TestArgumentsAreNamedByTheirFields(t *testing.T) {
	list, err := argNames(new(named))
	require.NoError(t, err)
	require.Equal(t, []string{"id", "aheadIO", "ownID", "ioLeft"}, list)
	_, err = argNames(new(swapped))
	require.EqualError(t, err, "*script.swapped.First is not argument 1")
	_, err = argNames(new(short))
	require.EqualError(t, err, "*script.short has 2 fields and appends 1 arguments")
}
