package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// saying returns what is shown of a text with which a task fails whose secret
// parameters are the fields of params.
func saying[P any](t *testing.T, params P, secrets []string, text string) string {
	t.Helper()
	d := &taskrt.Definition[P, taskrt.None]{
		Spec:         taskrt.Spec{Name: "say", Secrets: secrets},
		AppendParams: func(_ *P, b []byte) ([]byte, error) { return append(b, 0x80), nil },
		ReadParams:   func(p *P, r *codec.Reader) { r.Skip(); *p = params },
	}
	b := memory.New()
	bound := taskrt.Bind(d, func(context.Context, *P) (taskrt.None, error) {
		return taskrt.None{}, taskrt.Permanent(errors.New(text))
	})
	consume(t, b, taskrt.ConsumerConfig{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}, []taskrt.Task{bound})
	ctx, cancel := context.WithTimeout(clientContext(t.Context(), b), 50*time.Second)
	defer cancel()
	h, err := taskrt.Queue(ctx, d, &params, taskrt.Keep(time.Hour))
	require.NoError(t, err)
	_, err = h.Wait(ctx)
	var failed *taskrt.RunError
	require.ErrorAs(t, err, &failed)
	return failed.Message
}

// TestTextsThatOnlyResembleASecretStay has texts that end as a secret, or a form of it,
// begins.
func TestTextsThatOnlyResembleASecretStay(t *testing.T) {
	t.Parallel()
	type params struct {
		Who   tasks.Credentials
		Where string
	}
	p := params{tasks.Credentials{User: "CANARY-user"}, "https://user:CANARY@example.com/"}
	for _, text := range []string{
		"there is no package tasks", "unsupported scheme: http", "https://", "there is no struct named tasks.Credentials",
	} {
		require.Equal(t, text, saying(t, p, []string{"who", "where"}, text))
	}
	require.Equal(t, "refused: ***, ***", saying(t, p, []string{"who", "where"}, "refused: CANARY-user, https://user:CANARY@example.com/"))
}

// TestACutLineEndsInNoSecret has a long line be cut within a secret.
func TestACutLineEndsInNoSecret(t *testing.T) {
	t.Parallel()
	b := memory.New()
	var log lockedBuffer
	consume(t, b, taskrt.ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil))
	ctx, cancel := context.WithTimeout(clientContext(t.Context(), b), 50*time.Second)
	defer cancel()
	p, _ := canaries()
	h, err := tasks.QueueLeakApart(ctx, "print", strings.Repeat("CANARY", 7000), p.Key, p.Raw, p.Pin, p.Ratio, p.Who, p.Amount, taskrt.Keep(time.Hour))
	require.NoError(t, err)
	_, err = h.Wait(ctx)
	require.NoError(t, err)
	require.Contains(t, log.String(), "bytes_cut=")
	require.NotContains(t, log.String(), "CANARY")
}

// TestManySecretNumbers has so many numbers that everything is hidden, as finding each
// would take more memory than the run.
func TestManySecretNumbers(t *testing.T) {
	t.Parallel()
	type params struct{ Numbers []int64 }
	var p params
	for i := range int64(350_000) {
		p.Numbers = append(p.Numbers, 1_000_000+i)
	}
	require.Equal(t, "***", saying(t, p, []string{"numbers"}, "no number of them"))
	p.Numbers = p.Numbers[:5000]
	require.Equal(t, "no number but ***", saying(t, p, []string{"numbers"}, "no number but 1001234"))
}

// angry is a secret whose methods panic.
type angry struct{ Name string }

func (angry) String() string { panic("angry") }

func (angry) MarshalJSON() ([]byte, error) { panic("angry") }

// byPointer is a secret that only a pointer to it writes.
type byPointer struct{ name [4]byte }

func (q *byPointer) String() string { return "CANARY<" + string(q.name[:]) + ">" }

// TestSecretsThatAreHardToFind has secrets of types with methods of their own, and of
// characters.
func TestSecretsThatAreHardToFind(t *testing.T) {
	t.Parallel()
	type params struct {
		First angry
		Quiet byPointer
		Named map[string]byPointer
		Runes []rune
		Last  string
	}
	p := params{
		angry{"CANARY-first"}, byPointer{[4]byte{'o', 'n', 'e', '1'}}, map[string]byPointer{"CANARY-key": {[4]byte{'t', 'w', 'o', '2'}}},
		[]rune("CANARY-жизнь"), "CANARY-last",
	}
	said := saying(t, p, []string{"first", "quiet", "named", "runes", "last"},
		"CANARY-first, CANARY<one1>, CANARY<two2>, CANARY-key, CANARY-жизнь, CANARY-last.")
	require.Equal(t, "***, ***, ***, ***, ***, ***.", said)
}

// TestSecretsAreFoundInEscapesOfAnyForm escapes other bytes, in other cases and more
// often than this program does.
func TestSecretsAreFoundInEscapesOfAnyForm(t *testing.T) {
	t.Parallel()
	type params struct{ Password string }
	const password = "z9+q/Ca nary=7&<é😀>"
	p := params{password}
	lower := func(s string) string {
		return regexp.MustCompile(`%..`).ReplaceAllStringFunc(s, strings.ToLower)
	}
	every := func(format string) string {
		var b strings.Builder
		for _, c := range []byte(password) {
			fmt.Fprintf(&b, format, c)
		}
		return b.String()
	}
	query := url.QueryEscape(password)
	for name, escaped := range map[string]string{
		"query, lower case":         lower(query),
		"path, lower case":          lower(url.PathEscape(password)),
		"every byte":                every("%%%02x"),
		"every byte of a Go string": every(`\x%02X`),
		"octal":                     every(`\%03o`),
		"twice":                     url.QueryEscape(lower(query)),
		"three times":               url.PathEscape(url.PathEscape(lower(query))),
		"JSON of other programs":    `z9+q\/Ca nary=7\u0026\u003C\u00E9\ud83D\uDE00\u003E`,
		"HTML of other programs":    `z9&plus;q&#x2F;Ca&#32;nary&#61;7&amp;&lt;&eacute;&#x1f600;&gt;`,
		"a URL in JSON":             strings.ReplaceAll(lower(query), "%", `\u0025`),
		"nothing but what must be":  "z9%2bq/Ca+nary=7%26%3c\u00e9%F0%9f%98%80%3e",
	} {
		require.Equal(t, "GET /?p=***&q=1", saying(t, p, []string{"password"}, "GET /?p="+escaped+"&q=1"), name)
	}
	for _, text := range []string{"100% of 5%", `C:\new\temp`, "a&b;c & d", "%zz%4", `\u12`, `\U00`, "1+1=2"} {
		require.Equal(t, text, saying(t, p, []string{"password"}, text))
	}
}
