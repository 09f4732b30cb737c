package taskapp

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// commandLine is one use of the application's command line.
type commandLine struct {
	app    *App
	root   *cobra.Command
	tasks  taskSet
	taskOf map[*cobra.Command]*task // of those of exec and queue
	order  []*cobra.Command         // as they are added
	err    error                    // of the tasks: no command works
	stdout io.Writer
	stderr io.Writer
}

// name is how the command line is called.
func (c *commandLine) name() string { return c.root.CommandPath() }

// The groups of commands, in their order in help.
const (
	groupRun     = "run"
	groupInspect = "inspect"
	groupOperate = "operate"
)

// tree returns the commands. Each command's own file defines it; a new one is a line
// here.
func (c *commandLine) tree() *cobra.Command {
	root := &cobra.Command{
		Short:        "runs background tasks",
		Args:         cobra.ArbitraryArgs,
		SilenceUsage: true,
	}
	c.root = root
	c.asGroup(root, func(word string) error {
		if slices.Contains(deadCommands, word) {
			return usagef("", "unknown command %q; did you mean \"dead %[1]s\"?", word)
		}
		return usagef("", "unknown command %q%s", word, didYouMean(word, c.commandNames(), ""))
	}, func() error {
		return usagef("", "no command; one of %s is needed", strings.Join(c.commandNames(), ", "))
	})
	root.SetHelpFunc(c.help)
	root.SetFlagErrorFunc(c.flagError)
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run"}, &cobra.Group{ID: groupInspect, Title: "Inspect"}, &cobra.Group{ID: groupOperate, Title: "Operate"})
	c.add(groupRun, c.serveCommand(), c.execCommand(), c.queueCommand())
	c.add(groupInspect, c.listCommand(), c.statusCommand(), c.consumersCommand(), c.runsCommand(), c.runCommand(), c.healthCommand())
	c.add(groupOperate, c.cancelCommand(), c.deadCommand(), c.auditCommand(),
		c.pauseCommand("pause"), c.pauseCommand("resume"), c.enableCommand("enable"), c.enableCommand("disable"))
	return root
}

func (c *commandLine) add(group string, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.GroupID = group
		c.root.AddCommand(cmd)
		c.order = append(c.order, cmd)
	}
}

// commandNames returns the names of the commands in the order of their groups.
func (c *commandLine) commandNames() (names []string) {
	for _, group := range c.root.Groups() {
		for _, cmd := range c.inGroup(group.ID) {
			names = append(names, cmd.Name())
		}
	}
	return names
}

// asGroup makes a command one that needs another word behind it: unknown returns the
// error of a word that is no command, and none that of no word.
func (c *commandLine) asGroup(cmd *cobra.Command, unknown func(word string) error, none func() error) {
	cmd.DisableFlagParsing = true // a flag before the word is an error of its own
	cmd.SilenceUsage = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case c.err != nil:
			return c.err
		case len(args) == 0:
			return none()
		case isHelp(args[0]):
			return cmd.Help()
		case isFlag(args[0]):
			return usagef(c.words(cmd), "flag %s before the command; flags stand behind it", args[0])
		}
		return unknown(args[0])
	}
}

// words are a command's words behind the name of the command line.
func (c *commandLine) words(cmd *cobra.Command) string {
	return strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), c.name()))
}

// runE returns the RunE of a command. The context of run ends with the first
// SIGINT or SIGTERM; a second one ends the process.
func (c *commandLine) runE(run func(ctx context.Context, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if c.err != nil {
			return c.err
		}
		c.stdout, c.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
		ctx, stop := stoppable(cmd.Context())
		defer stop()
		return run(ctx, cmd, args)
	}
}

// stoppable returns a context that ends with the first SIGINT or SIGTERM. A second one
// ends the process until stop is called, also if the process was started with the signal
// ignored: shells start background commands so.
func stoppable(ctx context.Context) (_ context.Context, stop func()) {
	signals := make(chan os.Signal, 2)
	// The first use of os/signal takes a thread for good: not the first one, which
	// waits for orphans if this process is the first of a container.
	goruntime.LockOSThread()
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	goruntime.UnlockOSThread()
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stopped:
				return
			case s := <-signals:
				if n > 0 {
					endBy(s)
				}
				cancel(&signalled{s})
			}
		}
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(stopped)
		cancel(context.Canceled)
	})
}

// signalled is why a command stops.
type signalled struct{ os.Signal }

func (s *signalled) Error() string { return s.String() + " signal received" }

// endBy ends the process with the status that shells give to a process that a signal
// has ended.
func endBy(s os.Signal) {
	status := 1
	if n, ok := s.(syscall.Signal); ok {
		status = 128 + int(n)
	}
	os.Exit(status)
}

// checkFirst refuses a flag as the first word.
func (c *commandLine) checkFirst(args []string) error {
	if len(args) > 0 && isFlag(args[0]) && !isHelp(args[0]) {
		return usagef("", "flag %s before the command; flags stand behind it", args[0])
	}
	return nil
}

// doubleHyphens returns the arguments with --name in place of -name, which Go programs
// take for the same. Commands that read their flags themselves are left alone.
func (c *commandLine) doubleHyphens(args []string) []string {
	cmd, _, err := c.root.Find(args)
	if err != nil || cmd.DisableFlagParsing {
		return args
	}
	doubled := slices.Clone(args)
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		name, hyphen := strings.CutPrefix(args[i], "-")
		if !hyphen || name == "" || name == "h" {
			continue
		}
		if !strings.HasPrefix(name, "-") {
			doubled[i] = "-" + args[i]
		}
		name, _, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if f := cmd.Flags().Lookup(name); f != nil && f.NoOptDefVal == "" && !hasValue {
			i++ // its value
		}
	}
	return doubled
}

// isFlag reports whether an argument is like a flag.
func isFlag(arg string) bool { return strings.HasPrefix(arg, "-") }

// isHelp reports whether an argument asks for help.
func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// taskNamed returns the task of a name that may be written with hyphens, nil if
// there is none.
func (c *commandLine) taskNamed(name string) *task {
	if t, ok := c.tasks.byName[name]; ok {
		return t
	}
	return c.tasks.byName[strings.ReplaceAll(name, "-", "_")]
}

func (c *commandLine) unknownTask(command, name string) error {
	known := slices.Sorted(maps.Keys(c.tasks.byName))
	hint := didYouMean(strings.ReplaceAll(name, "-", "_"), known, "; "+c.name()+" list shows them")
	return usagef(command, "no task is named %q%s", name, hint)
}

// brokers opens the brokers of commands.
func (c *commandLine) brokers(logger *slog.Logger) brokerurl.Config {
	return brokerurl.Config{Default: c.app.Broker, Openers: c.app.Brokers, Logger: logger}
}

// isEmbedded reports whether a URL names the embedded broker.
func (c *commandLine) isEmbedded(url string) bool { return c.brokers(nil).Embedded(url) }

// withhold names the broker's URL to the children's configuration, which keeps it out of
// their environment.
func (c *commandLine) withhold(children *taskrt.ChildConfig, url string) {
	if children.BrokerURL == "" && !c.isEmbedded(url) {
		children.BrokerURL = c.brokers(nil).URL(url)
	}
}

// openBroker opens the broker of a command and returns a function that closes it. The
// broker logs keys and names that it skips.
func (c *commandLine) openBroker(ctx context.Context, url string, logger *slog.Logger) (broker.Broker, func(), error) {
	b, err := c.brokers(logger).Open(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	return b, func() {
		if closer, ok := b.(io.Closer); ok {
			closer.Close()
		}
	}, nil
}

// client returns a client of a broker as the application has it.
func (c *commandLine) client(b broker.Broker) *taskrt.Client {
	return taskrt.NewClient(b, c.app.clientConfig())
}
