package typed_test

import (
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard/internal/typed"
	"github.com/taskgen/taskgen/internal/jsonform"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func taskNamed(t *testing.T, name string) taskrt.Task {
	t.Helper()
	for _, task := range tasks.Tasks(nil) {
		if task.Name() == name {
			return task
		}
	}
	t.Fatalf("the test application has no task %s", name)
	return taskrt.Task{}
}

func newForm(t *testing.T, name string) (taskrt.Task, *typed.Form) {
	t.Helper()
	task := taskNamed(t, name)
	f, err := typed.New(task, new(jsonform.Forms))
	require.NoError(t, err)
	return task, f
}

func shaped() *tasks.ShapedParams {
	return &tasks.ShapedParams{
		Size: tasks.Size{Width: 1<<63 - 1, Height: -5}, List: []int{1, 1<<53 + 1}, ByName: map[string]int{"a b": 9007199254740993}, Best: &tasks.Size{Width: 1},
		Pair: [2]int{3, 4}, Pause: 1500 * time.Millisecond, At: time.Date(2027, 1, 2, 3, 4, 5, 678901234, time.UTC), Blob: []byte{0, 1, 254}, Text: "two\nlines & <b>",
	}
}

// TestParametersGoThroughAFormUnchanged fills a form with the parameters of a run and sends it.
func TestParametersGoThroughAFormUnchanged(t *testing.T) {
	task, f := newForm(t, "shaped")
	edit := func(change func(p *tasks.ShapedParams)) *tasks.ShapedParams {
		p := shaped()
		change(p)
		return p
	}
	for name, params := range map[string]*tasks.ShapedParams{
		"full":            shaped(),
		"empty text":      edit(func(p *tasks.ShapedParams) { p.Text = "" }),
		"empty bytes":     edit(func(p *tasks.ShapedParams) { p.Blob = []byte{} }),
		"no struct":       edit(func(p *tasks.ShapedParams) { p.Best = nil }),
		"a zero struct":   edit(func(p *tasks.ShapedParams) { p.Best = &tasks.Size{} }),
		"nil list":        edit(func(p *tasks.ShapedParams) { p.List, p.ByName = nil, nil }),
		"empty list":      edit(func(p *tasks.ShapedParams) { p.List, p.ByName = []int{}, map[string]int{} }),
		"no ends of line": edit(func(p *tasks.ShapedParams) { p.Text = "a\r\nb\rc\x00\x1b[31m" }),
		"hidden text":     edit(func(p *tasks.ShapedParams) { p.Text = "a\u202eb" }),
		"zero duration":   edit(func(p *tasks.ShapedParams) { p.Pause = 0 }),
	} {
		payload, err := task.EncodeParams(params)
		require.NoError(t, err)
		values, exact, err := f.Values(payload)
		require.NoError(t, err)
		require.True(t, exact)
		for field, all := range values { // as a browser sends them
			values[field] = []string{strings.ReplaceAll(all[0], "\n", "\r\n")}
		}
		again, text, errs := f.Encode(values, nil)
		require.Empty(t, errs, "%s: %s", name, text)
		read, err := task.DecodeParams(again)
		require.NoError(t, err)
		require.Equal(t, params, read, "%s: %s", name, text)
	}
	payload, err := task.EncodeParams(edit(func(p *tasks.ShapedParams) { p.Text = "\xff" }))
	require.NoError(t, err)
	_, exact, err := f.Values(payload)
	require.NoError(t, err)
	require.False(t, exact, "a form cannot hold it")
}

// TestAnErrorStandsAtItsField fills a form in wrongly.
func TestAnErrorStandsAtItsField(t *testing.T) {
	_, f := newForm(t, "shaped")
	values := url.Values{
		"p:/size/Width": {"wide"}, "p:/size/Height": {"99999999999999999999"}, "p:/list": {`[1, "x"]`}, "p:/byName": {"{"},
		"p:/pause": {"30"}, "p:/at": {"tomorrow"}, "p:/blob": {"%"}, "p:/pair": {"[1]"}, "p:/best/Width": {"1.5"},
	}
	payload, _, errs := f.Encode(values, nil)
	require.Nil(t, payload)
	inputs, others := f.Inputs(values, errs, false)
	require.Empty(t, others)
	found := map[string]string{}
	var walk func(inputs []*typed.Input)
	walk = func(inputs []*typed.Input) {
		for _, in := range inputs {
			require.Equal(t, values.Get(in.Name), in.Value, "what was filled in stays")
			found[in.Name] = in.Error
			walk(in.Fields)
		}
	}
	walk(inputs)
	for name, want := range map[string]string{
		"p:/size/Width": "an integer", "p:/size/Height": "an integer", "p:/list": "at /1: ", "p:/byName": "this is no JSON",
		"p:/pause": "a number needs a unit, such as 30s", "p:/at": "expected a time such as", "p:/blob": "base64", "p:/pair": "2", "p:/best/Width": "an integer", "p:/text": "",
	} {
		require.Contains(t, found[name], want, "%s of %v", name, errs)
	}
	_, _, errs = f.Encode(url.Values{}, nil)
	require.Contains(t, errs, "/size/Width", "a required number")
	require.NotContains(t, errs, "/pause", "it has a default")
}

// TestTimesAreReadAsPeopleWriteThem checks the short forms of an instant.
func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]string{
		"2027-01-02": "2027-01-02T00:00:00Z", "2027-01-02 03:04": "2027-01-02T03:04:00Z", "2027-01-02T03:04:05.5": "2027-01-02T03:04:05.5Z",
		"2027-01-02 03:04:05+01:00": "2027-01-02T03:04:05+01:00", "2027-01-02T03:04:05Z": "2027-01-02T03:04:05Z", "soon": "soon",
	} {
		require.Equal(t, want, typed.Instant(text), text)
	}
}

// TestSecretsAreKeptAndNeverShown edits the parameters of a run of a task with secrets.
func TestSecretsAreKeptAndNeverShown(t *testing.T) {
	task, f := newForm(t, "login")
	old, err := task.EncodeParams(&tasks.LoginParams{User: "ada", Pin: 27182})
	require.NoError(t, err)
	values, _, err := f.Values(old)
	require.NoError(t, err)
	require.NotContains(t, values.Encode(), "27182")
	values.Set("p:/user", "bob")
	payload, _, errs := f.Encode(values, old)
	require.Empty(t, errs)
	params, err := task.DecodeParams(payload)
	require.NoError(t, err)
	require.Equal(t, &tasks.LoginParams{User: "bob", Pin: 27182}, params)

	values.Set("p:/pin", "31415x")
	_, _, errs = f.Encode(values, old)
	inputs, _ := f.Inputs(values, errs, true)
	require.True(t, inputs[1].Secret)
	require.Empty(t, inputs[1].Value)
	require.NotEmpty(t, inputs[1].Error)
	require.NotContains(t, inputs[1].Error, "31415")
	lines := f.Lines("app", payload, typed.Options{})
	require.NotContains(t, lines.Command+lines.Curl, "27182")
	require.Equal(t, "app queue login --user=bob --pin=@FILE", lines.Command)
	require.Contains(t, lines.Curl, `"pin":"***"`)
}

// TestLinesAreQuotedForAShell gives a hostile command line to a shell.
func TestLinesAreQuotedForAShell(t *testing.T) {
	task, f := newForm(t, "recorder_record")
	for _, note := range []string{"plain", "", "two words", "it's; rm -rf $HOME `id` \"x\" \\", "-n", "new\nline\n", "\u202eright to left\x1b[31m 'q' 100%\n", "@file", "é"} {
		payload, err := task.EncodeParams(&tasks.RecorderRecordParams{Note: note})
		require.NoError(t, err)
		lines := f.Lines("my app", payload, typed.Options{Delay: "1h", Queue: "a'b", Headers: []string{"k=v w"}, ID: "x"})
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '%s\\0' "+lines.Command).Output()
		require.NoError(t, err)
		want := note
		if strings.HasPrefix(note, "@") {
			want = "@" + note
		}
		require.Equal(t, []string{"my app", "queue", "recorder_record", "--queue=a'b", "--delay=1h", "--id=x", "--header=k=v w", "--note=" + want, ""}, strings.Split(string(out), "\x00"))
		require.NotContains(t, lines.Command+lines.Curl, "\u202e")
		out, err = exec.CommandContext(t.Context(), "sh", "-c", "printf '%s\\0' "+lines.Curl).Output()
		require.NoError(t, err)
		words := strings.Split(string(out), "\x00")
		require.Equal(t, typed.Here+"/api/v1/tasks/recorder_record/runs?delay=1h&header=k%3Dv+w&queue=a%27b", words[3])
		again, err := func() ([]byte, error) {
			form, err := jsonform.Params(task.Spec().Params)
			require.NoError(t, err)
			return form.Encode([]byte(words[len(words)-2]))
		}()
		require.NoError(t, err, words)
		require.Equal(t, payload, again)
	}
}

// TestEachTaskHasAForm makes the forms of all tasks of the test application.
func TestEachTaskHasAForm(t *testing.T) {
	for _, task := range tasks.Tasks(nil) {
		f, err := typed.New(task, new(jsonform.Forms))
		require.NoError(t, err, task.Name())
		inputs, _ := f.Inputs(url.Values{}, nil, false)
		require.Len(t, inputs, len(task.Params()), task.Name())
		require.Contains(t, f.Lines("app", nil, typed.Options{}).Command, "app queue "+task.Name())
	}
}
