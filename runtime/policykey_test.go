package runtime_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// keyed returns a task with policies whose keys are made of the bytes of its parameters.
func keyed(name string, aliases ...string) *taskrt.Definition[[]byte, taskrt.None] {
	values := func(p *[]byte, b []byte) []byte { return append(b, *p...) }
	return &taskrt.Definition[[]byte, taskrt.None]{
		Spec: taskrt.Spec{
			Name: name, Aliases: aliases, Kind: taskrt.IO, Unique: time.Hour, Fair: true,
			Limit: taskrt.Limit{Concurrency: 1, Rate: 5, Per: time.Minute},
		},
		AppendParams: func(p *[]byte, b []byte) ([]byte, error) { return codec.AppendMapLen(b, 0), nil },
		ReadParams:   func(p *[]byte, r *codec.Reader) { r.Skip() },
		Keys:         taskrt.Keys[[]byte]{Unique: values, Concurrency: values, Rate: values, Fair: values},
	}
}

// rulesOf returns the rules of a run that a client would queue.
func rulesOf(t *testing.T, d *taskrt.Definition[[]byte, taskrt.None], values []byte) (rules broker.Rules) {
	t.Helper()
	see := func(taskrt.QueueHandler) taskrt.QueueHandler {
		return func(_ context.Context, runs ...*broker.TaskRun) error {
			rules = *runs[0].Rules
			return nil
		}
	}
	client := taskrt.NewClient(newMemory(t), taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{see}})
	_, err := taskrt.Queue(taskrt.WithClient(context.Background(), client), d, &values)
	require.NoError(t, err)
	return rules
}

func TestKeysOfPoliciesAreThoseOfTheVectors(t *testing.T) {
	text, err := os.ReadFile("../testdata/wire/keys.json")
	require.NoError(t, err)
	var vectors []struct {
		Name, Of, Canonical, Key string
		Values                   [][]string
	}
	require.NoError(t, json.Unmarshal(text, &vectors))
	require.NotEmpty(t, vectors)
	for _, v := range vectors {
		for _, form := range v.Values {
			values, err := hex.DecodeString(strings.Join(form, ""))
			require.NoError(t, err)
			canonical, err := codec.AppendCanonical(nil, values)
			require.NoError(t, err)
			require.Equal(t, v.Canonical, hex.EncodeToString(canonical), v.Name)
			task, limit, isLimit := strings.Cut(v.Of, "/")
			rules := rulesOf(t, keyed(task), values)
			if isLimit {
				require.Equal(t, "running", limit)
				require.Equal(t, v.Key, rules.Limits[0].Key, v.Name)
				continue
			}
			require.Equal(t, v.Key, rules.Unique, v.Name)
			require.Equal(t, strings.TrimPrefix(v.Key, task), rules.Fair, v.Name)
		}
	}
}

// TestVersionsOfOneTaskShareTheirKeys has a task that was renamed twice.
func TestVersionsOfOneTaskShareTheirKeys(t *testing.T) {
	want := rulesOf(t, keyed("first"), []byte{1})
	require.Equal(t, want, rulesOf(t, keyed("second", "first"), []byte{1}))
	require.Equal(t, want, rulesOf(t, keyed("third", "first", "second"), []byte{1}))
	require.NotEqual(t, want, rulesOf(t, keyed("second"), []byte{1}))
}

// TestEqualValuesThatMarshalThemselvesAreDuplicates encodes a map in the order of the moment.
func TestEqualValuesThatMarshalThemselvesAreDuplicates(t *testing.T) {
	value := map[string]int{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8}
	d := keyed("send")
	client := taskrt.NewClient(newMemory(t), taskrt.ClientConfig{})
	ctx, accepted, forms := taskrt.WithClient(context.Background(), client), 0, map[string]bool{}
	for i := range 50 {
		values, err := msgpack.Marshal(value)
		require.NoError(t, err)
		forms[string(values)] = true
		_, err = taskrt.Queue(ctx, keyed("send"), &values)
		if err == nil {
			accepted++
			continue
		}
		require.ErrorIs(t, err, taskrt.ErrDuplicate, i)
	}
	require.Greater(t, len(forms), 1, "encodings of the value")
	require.Equal(t, 1, accepted)
	values := codec.AppendInt(nil, 1)
	_, err := taskrt.Queue(ctx, d, &values)
	require.NoError(t, err, "another value")
}
