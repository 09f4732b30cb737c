package taskapp

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker/brokerurl"
)

// help prints the help of a command.
func (c *commandLine) help(cmd *cobra.Command, _ []string) {
	c.stdout = cmd.OutOrStdout()
	t := c.taskOf[cmd]
	switch {
	case cmd == c.root:
		c.helpRoot()
	case t != nil:
		c.newTaskFlags(context.Background(), cmd, t, &taskOptions{}).print()
	default:
		c.printManual(cmd)
		if cmd.HasSubCommands() && c.isTaskGroup(cmd) {
			_ = c.printTasks() // nobody reads on
		}
		c.printFlags("Flags", cmd.LocalFlags())
		c.printFlags("Flags of all commands", cmd.InheritedFlags())
	}
}

// isTaskGroup reports whether the words behind a command are tasks.
func (c *commandLine) isTaskGroup(cmd *cobra.Command) bool {
	return cmd.Name() == "exec" || cmd.Name() == "queue"
}

func (c *commandLine) helpRoot() {
	fmt.Fprintf(c.stdout, "%s runs background tasks.\n", c.name())
	w := c.table()
	for _, group := range c.root.Groups() {
		fmt.Fprintf(w, "\n%s:\n", group.Title)
		for _, cmd := range c.inGroup(group.ID) {
			fmt.Fprintf(w, "  %s %s\t%s\n", c.name(), cmd.Use, cmd.Short)
		}
	}
	w.Flush()
	fmt.Fprintf(c.stdout, `
Each command takes --help and --json. --broker URL, by default $%s,
names a broker: redis://host:port, or memory: (embedded, gone with the process).
`, brokerurl.Env)
	if !c.root.HasParent() {
		fmt.Fprintf(c.stdout, "%s completion --help shows how a shell completes all of this.\n", c.name())
	}
	if tasks := c.tasks.list; len(tasks) > 0 {
		params, _ := tasks[0].paramFlags(context.Background())
		fmt.Fprintf(c.stdout, "\nExample: %s exec %s%s\n", c.name(), tasks[0].Name(), exampleFlags(params))
	}
}

// inGroup returns the commands of a group in the order in which they were added.
func (c *commandLine) inGroup(id string) (commands []*cobra.Command) {
	for _, cmd := range c.order {
		if cmd.GroupID == id {
			commands = append(commands, cmd)
		}
	}
	return commands
}

// printManual prints the head of a command's help.
func (c *commandLine) printManual(cmd *cobra.Command) {
	path := cmd.CommandPath()
	if _, words, some := strings.Cut(cmd.Use, " "); some {
		path += " " + words
	}
	fmt.Fprintf(c.stdout, "Usage: %s [flags]\n\n", path)
	if long := strings.TrimSpace(cmd.Long); long != "" {
		fmt.Fprintf(c.stdout, "%s\n\n", long)
	}
	if cmd.Example != "" {
		fmt.Fprintf(c.stdout, "Example: %s %s\n", c.name(), cmd.Example)
	}
}

// table returns a writer that aligns columns.
func (c *commandLine) table() *tabwriter.Writer {
	return tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
}

// printFlags prints the flags except hidden ones and --help.
func (c *commandLine) printFlags(title string, set *pflag.FlagSet) {
	w := c.table()
	some := false
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if !some {
			fmt.Fprintf(w, "\n%s:\n", title)
		}
		some = true
		printFlag(w, f.Name, f)
	})
	w.Flush()
}

// printFlag prints a flag under a name that it has.
func printFlag(w io.Writer, name string, f *pflag.Flag) {
	def := ""
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
		def = fmt.Sprintf(" (default %s)", strings.ToLower(f.DefValue))
	}
	fmt.Fprintf(w, "  --%s\t%s%s\n", name, f.Usage, def)
}

// helpCommand returns help, which stands before the words of a command.
func (c *commandLine) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "help [COMMAND]",
		Short:              "show the help of a command",
		Hidden:             true,
		DisableFlagParsing: true, // nothing is executed that is not asked for
		SilenceUsage:       true,
		ValidArgsFunction: func(_ *cobra.Command, words []string, start string) ([]string, cobra.ShellCompDirective) {
			cmd, rest, err := c.root.Find(words)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return subcommands(cmd, start), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, words []string) error {
			for i, word := range words {
				if isFlag(word) || word == "help" {
					words = words[:i]
					break
				}
			}
			cmd, rest, err := c.root.Find(words)
			switch {
			case err != nil:
				return err
			case len(rest) > 0 && cmd.HasSubCommands():
				return cmd.RunE(cmd, append(rest, "--help")) // whose error names the mistake
			case len(rest) > 0:
				return usagef(c.words(cmd), "unexpected argument %q", rest[0])
			}
			return cmd.Help()
		},
	}
}

// subcommands returns the commands below cmd whose names begin with start.
func subcommands(cmd *cobra.Command, start string) (names []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), start) {
			names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
		}
	}
	return names
}
