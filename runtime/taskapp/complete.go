package taskapp

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	// completionTime is how long a completion waits for the broker.
	completionTime = time.Second
	// mostCompleted is how many ids of each state a completion offers.
	mostCompleted = 100
)

// completion is a function that cobra asks for completions.
type completion = func(cmd *cobra.Command, words []string, start string) ([]string, cobra.ShellCompDirective)

// oneOf completes one of some words.
func oneOf(words ...string) completion {
	return func(_ *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
		return starting(words, start), cobra.ShellCompDirectiveNoFileComp
	}
}

// starting returns the words that start so, and can be a word of a shell.
func starting(words []string, start string) (found []string) {
	for _, word := range words {
		id, _, _ := strings.Cut(word, "\t") // a description follows
		if strings.HasPrefix(id, start) && text.Printable(id) == id {
			found = append(found, word)
		}
	}
	return found
}

// firstWord completes the first word of a command alone.
func firstWord(complete completion) completion {
	return func(cmd *cobra.Command, words []string, start string) ([]string, cobra.ShellCompDirective) {
		if len(words) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, words, start)
	}
}

// completeFlags registers the completions of a command's flags, by their names.
func completeFlags(cmd *cobra.Command, flags map[string]completion) {
	for name, complete := range flags {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // it fails for unknown flags alone
		}
	}
}

// flagCompletions are those of all flags that several commands have.
func (c *commandLine) flagCompletions() map[string]completion {
	return map[string]completion{
		"broker": c.completeBroker, "queue": c.completeQueue, "task": c.completeTaskName,
		"state": completeState, "kind": oneOf(failureKinds...), "log": oneOf("debug", "info", "warn", "error"), "http-auth": oneOf(httpAuths...), "tag": oneOf(c.tasks.tags()...),
		"priority": oneOf(priorities...), "key": c.completeRuns(allStates...),
	}
}

// completeState completes a state that the command's --state may name.
func completeState(cmd *cobra.Command, words []string, start string) ([]string, cobra.ShellCompDirective) {
	if cmd.Name() == "cancel" {
		return oneOf(liveStates...)(cmd, words, start)
	}
	return oneOf(states...)(cmd, words, start)
}

// completeBroker completes the schemes of [brokerurl.Open], and those of App.Brokers.
func (c *commandLine) completeBroker(_ *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
	urls := []string{"redis://", "rediss://", "redis+cluster://", "redis+sentinel://", "unix://", "memory:"}
	for scheme := range c.app.Brokers {
		urls = append(urls, scheme+":")
	}
	slices.Sort(urls)
	return starting(urls, start), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeTaskName completes a task's name, with hyphens if start has some.
func (c *commandLine) completeTaskName(_ *cobra.Command, _ []string, start string) (found []string, _ cobra.ShellCompDirective) {
	for _, t := range c.tasks.list {
		name := t.Name()
		if strings.Contains(start, "-") {
			name = strings.ReplaceAll(name, "_", "-")
		}
		if strings.HasPrefix(name, start) {
			found = append(found, cobra.CompletionWithDesc(name, summary(t.Spec().Doc)))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeHyphens completes the names of tasks with hyphens; cobra knows the others.
func (c *commandLine) completeHyphens(cmd *cobra.Command, words []string, start string) ([]string, cobra.ShellCompDirective) {
	if len(words) > 0 || isFlag(start) || !strings.Contains(start, "-") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completeTaskName(cmd, words, start)
}

// completeTask completes the values of the flags of exec and queue for a task; cobra
// knows their names.
func (c *commandLine) completeTask(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	f := c.newTaskFlags(context.Background(), cmd, c.taskOf[cmd], &taskOptions{})
	name := ""
	if n := len(args); n > 0 && strings.HasPrefix(args[n-1], "--") {
		name = args[n-1][2:]
	}
	prefix := ""
	if flag, value, found := strings.Cut(start, "="); found && isFlag(flag) {
		name, prefix, start = strings.TrimLeft(flag, "-"), flag+"=", value
	}
	known := f.set.Lookup(name)
	if known == nil || prefix == "" && known.NoOptDefVal != "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	p, isParam := known.Value.(*paramFlag)
	var found []string
	directive := cobra.ShellCompDirectiveNoFileComp
	switch {
	case isParam && strings.HasPrefix(start, "@"):
		found, directive = completeFile(start), directive|cobra.ShellCompDirectiveNoSpace
	case isParam && p.kind == "bool":
		found = starting([]string{"true", "false"}, start)
	case !isParam && c.flagCompletions()[strings.TrimPrefix(name, f.prefix)] != nil:
		found, directive = c.flagCompletions()[strings.TrimPrefix(name, f.prefix)](cmd, args, start)
	}
	for i := range found {
		found[i] = prefix + found[i]
	}
	return found, directive
}

// completeFile completes @FILE.
func completeFile(start string) (found []string) {
	path := strings.TrimPrefix(start, "@")
	entries, err := os.ReadDir(filepath.Dir(path + "x")) // of "dir/" that is dir
	if err != nil {
		return nil
	}
	dir := path[:len(path)-len(filepath.Base(path+"x"))+1]
	for _, entry := range entries {
		name := "@" + dir + entry.Name()
		if entry.IsDir() {
			name += "/"
		}
		found = append(found, name)
	}
	return starting(found, start)
}

// ask lets complete ask the broker. It is silent: without an answer in time there are
// no completions.
func (c *commandLine) ask(cmd *cobra.Command, start string, complete func(ctx context.Context, c *control) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	url := ""
	if f := cmd.Flags().Lookup("broker"); f != nil {
		url = f.Value.String()
	}
	if c.err != nil || c.isEmbedded(url) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	b, closeBroker, err := c.openBroker(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer closeBroker()
	control := &control{line: c, broker: b}
	if control.inspector, err = taskrt.NewInspector(b, c.tasks.plain()); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return starting(complete(ctx, control), start), cobra.ShellCompDirectiveNoFileComp
}

func (c *commandLine) completeQueue(cmd *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
	found, directive := c.ask(cmd, start, func(ctx context.Context, c *control) []string {
		names, _ := c.inspector.QueueNames(ctx)
		return names
	})
	if found == nil { // those of the program are known in any case
		for _, t := range c.tasks.list {
			found = append(found, t.Spec().Queues()...)
		}
		slices.Sort(found)
		found = starting(slices.Compact(found), start)
	}
	return found, directive
}

// completeRuns completes the ids of runs in some states, but for those given already.
func (c *commandLine) completeRuns(of ...broker.State) completion {
	return func(cmd *cobra.Command, given []string, start string) ([]string, cobra.ShellCompDirective) {
		return c.ask(cmd, start, func(ctx context.Context, c *control) (ids []string) {
			for _, state := range of {
				page, err := c.inspector.Runs(ctx, taskrt.RunFilter{States: []broker.State{state}, Key: start}, taskrt.PageOptions{Max: mostCompleted})
				if err != nil {
					break
				}
				for _, i := range page.Runs {
					if !slices.Contains(given, i.Run.ID) {
						ids = append(ids, describe(i.Run.ID, i.Run.Task, string(state)))
					}
				}
			}
			return ids
		})
	}
}

// completeDead completes the ids of dead letters, but for those given already.
func (c *commandLine) completeDead(cmd *cobra.Command, given []string, start string) ([]string, cobra.ShellCompDirective) {
	return c.ask(cmd, start, func(ctx context.Context, c *control) (ids []string) {
		page, err := c.inspector.Dead(ctx, taskrt.RunFilter{Key: start}, taskrt.PageOptions{Max: mostCompleted})
		if err != nil {
			return nil
		}
		for _, l := range page.Letters {
			task := ""
			if l.Run != nil {
				task = l.Run.Task
			}
			if !slices.Contains(given, l.ID) {
				ids = append(ids, describe(l.ID, task, string(l.Failure.Kind)))
			}
		}
		return ids
	})
}

// describe returns an id with the description that a shell shows beside it.
func describe(id, task, how string) string {
	return id + "\t" + text.Printable(strings.TrimSpace(fmt.Sprintf("%s %s", task, how)))
}

// completionCommand prints the script of a shell.
func (c *commandLine) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	cmd := c.command(manual{
		use: "completion SHELL", short: "print the completion script of a shell",
		long: `Prints the script with which a shell (bash, zsh, fish or powershell) completes
commands, tasks, queues, parameters and ids of runs. Ids and queues come from the
broker that --broker or $TASKGEN_BROKER names.

  bash         source <(` + c.name() + ` completion bash)
  zsh          source <(` + c.name() + ` completion zsh)
  fish         ` + c.name() + ` completion fish | source
  powershell   ` + c.name() + ` completion powershell | Out-String | Invoke-Expression

Put the line into the file that the shell reads at its start. bash needs the package
bash-completion.`,
		example: "completion bash",
	}, c.oneWord("the name of a shell"), func(_ context.Context, cmd *cobra.Command, words []string) error {
		root := cmd.Root()
		switch words[0] {
		case "bash":
			return root.GenBashCompletionV2(c.stdout, true)
		case "zsh":
			return root.GenZshCompletion(c.stdout)
		case "fish":
			return root.GenFishCompletion(c.stdout, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(c.stdout)
		}
		return usagef("completion", "no shell is named %q%s", words[0], didYouMean(words[0], shells, "; one of "+strings.Join(shells, ", ")))
	})
	cmd.ValidArgsFunction = firstWord(oneOf(shells...))
	return cmd
}
