//go:build !windows

package taskapp_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// completes returns what the last of some words can be completed to.
func (f *fleet) completes(words ...string) (found []string) {
	f.t.Helper()
	for line := range strings.Lines(f.completions("__completeNoDesc", words...)) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, ":") {
			found = append(found, line)
		}
	}
	return found
}

// completions returns what a script of a shell is told.
func (f *fleet) completions(command string, words ...string) string {
	f.t.Helper()
	cmd := exec.CommandContext(f.ctx, os.Args[0], append([]string{command}, words...)...)
	cmd.Env = append(os.Environ(), appEnv+"=1", brokerurl.Env+"="+f.server.URL())
	out, err := cmd.Output()
	require.NoError(f.t, err)
	return string(out)
}

func TestWordsAreCompleted(t *testing.T) {
	f := newFleet(t)
	f.queue(1)
	late, err := tasks.QueueEcho(f.ctx, "x", 1, taskrt.Delay(time.Hour), taskrt.OnQueue("elsewhere"))
	require.NoError(t, err)
	dead := f.die(2, "timeout")
	for line, want := range map[string][]string{
		"sta":                                   {"status"},
		"re":                                    {"resume"},
		"exec labe":                             {"labelled"},
		"queue recorder_m":                      {"recorder_mail"},
		"queue recorder-m":                      {"recorder-mail"},
		"exec labelled --no":                    {"--note"},
		"exec labelled --exec.":                 {"--exec.help", "--exec.json"},
		"exec labelled --wait=t":                {"--wait=true"},
		"dead ":                                 {"delete", "list", "retry"},
		"dead list --kind t":                    {"timeout"},
		"runs --state r":                        {"running"},
		"runs --task ech":                       {"echo"},
		"runs --queue e":                        {"elsewhere"},
		"runs --tag d":                          {"demo"},
		"runs --after":                          {"--after"},
		"runs no":                               {"now"},
		"runs now " + late.ID[:20]:              {late.ID},
		"runs --state c":                        {"cancelled"},
		"cancel --state f":                      nil,
		"cancel --dry":                          {"--dry-run"},
		"dead list --tag d":                     {"demo"},
		"queue echo --priority h":               {"high"},
		"queue echo --queue e":                  {"elsewhere"},
		"queue echo --priority=l":               {"--priority=low"},
		"consumers --queue e":                   {"elsewhere"},
		"cons":                                  {"consumers"},
		"pause m":                               {"mail"},
		"pause mail ":                           nil,
		"enable squ":                            {"square"},
		"serve --log d":                         {"debug"},
		"serve --http-auth ":                    {"probes", "basic:", "bearer:", "header:"},
		"serve --broker red":                    {"redis+cluster://", "redis+sentinel://", "redis://", "rediss://"},
		"completion b":                          {"bash"},
		"help dead r":                           {"retry"},
		"cancel " + late.ID[:20]:                {late.ID},
		"run " + late.ID[:20]:                   {late.ID},
		"dead retry " + dead[0]:                 {dead[0]},
		"dead retry " + dead[0] + " " + dead[0]: nil,
		"list --bro":                            {"--broker"},
	} {
		got := f.completes(strings.Split(line, " ")...)
		require.Equal(t, want, got, line)
	}
	require.Contains(t, f.completions("__complete", "cancel", late.ID), late.ID+"\techo delayed\n")
	require.Contains(t, f.completions("__complete", "exec", "squ"), "square\tSquare squares a number in a child process\n")
}

// TestCompletionIsSilentWithoutABroker, and takes no longer than a person waits.
func TestCompletionIsSilentWithoutABroker(t *testing.T) {
	for _, broker := range []string{"redis://127.0.0.1:1", "redis://192.0.2.1", "nonsense", "memory:"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "__complete", "run", "--broker", broker, "")
		cmd.Env = append(os.Environ(), appEnv+"=1")
		begin := time.Now()
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, ":4\n", string(out), broker)
		require.Less(t, time.Since(begin), 5*time.Second, broker)
	}
}

// TestFilesAreCompletedBehindAnAt, from which values of parameters are read.
func TestFilesAreCompletedBehindAnAt(t *testing.T) {
	f := newFleet(t)
	dir := t.TempDir() + "/"
	require.NoError(t, os.WriteFile(dir+"value.txt", nil, 0o600))
	require.NoError(t, os.Mkdir(dir+"values", 0o700))
	require.Equal(t, []string{"@" + dir + "value.txt", "@" + dir + "values/"}, f.completes("exec", "echo", "--text", "@"+dir+"val"))
	require.Equal(t, []string{"--text=@" + dir + "value.txt"}, f.completes("exec", "echo", "--text=@"+dir+"value."))
}

// TestTheScriptCompletesInBash sources the script in bash, which then completes as
// somebody would by the tabulator.
func TestTheScriptCompletesInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Symlink(os.Args[0], filepath.Join(dir, "app")))
	// The function of the package bash-completion that the script calls.
	const script = `
_get_comp_words_by_ref() {
	words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
	cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
}
source <(app completion bash)
complete -p app >/dev/null || exit 1
try() {
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMPREPLY=()
	__start_app
	printf '%s|' "${COMPREPLY[@]}"
	echo
}
try app stat
try app exec squ
try app exec square --
try app runs --state del
`
	cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", script)
	cmd.Env = append(os.Environ(), appEnv+"=1", "PATH="+dir+":"+os.Getenv("PATH"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	lines := strings.Split(string(out), "\n")
	require.Equal(t, "status|", strings.ReplaceAll(lines[0], " ", ""))
	require.Equal(t, "square|", strings.ReplaceAll(lines[1], " ", ""))
	require.Contains(t, lines[2], "--n")
	require.Contains(t, lines[2], "--child-env")
	require.Equal(t, "delayed|", strings.ReplaceAll(lines[3], " ", ""))
}

func TestScriptsOfFourShells(t *testing.T) {
	f := newFleet(t)
	for shell, want := range map[string]string{"bash": "__start_", "zsh": "#compdef ", "fish": "complete -c ", "powershell": "Register-ArgumentCompleter"} {
		require.Contains(t, f.says("completion", shell), want, shell)
	}
	require.Contains(t, f.refuses(2, "completion", "bsah"), `no shell is named "bsah"; did you mean "bash"?`)
	require.Contains(t, f.refuses(2, "completion"), "the name of a shell is needed")
}
