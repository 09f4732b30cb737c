package taskapp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/internal/naming"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// taskFlags are the flags of exec and queue for one task. A parameter is --name
// and --param.name. A flag of the command's own is --exec.name or --queue.name,
// and --name unless a parameter has that name.
//
// Package pflag reads them, but not through cobra, which would take a parameter called
// help for its own flag.
type taskFlags struct {
	c        *commandLine
	command  string // its words
	task     *task
	filled   any            // the struct that the parameters fill
	set      *pflag.FlagSet // under all their names
	prefix   string         // of the command's own
	params   []*paramFlag
	own      []*pflag.Flag
	wantHelp bool
}

// newTaskFlags returns the flags of the command of a task. Values that stand elsewhere
// are read until ctx ends.
func (c *commandLine) newTaskFlags(ctx context.Context, cmd *cobra.Command, t *task, o *taskOptions) *taskFlags {
	command := cmd.Parent().Name()
	f := &taskFlags{c: c, command: command + " " + t.Name(), task: t, set: newFlagSet(), prefix: command + "."}
	f.params, f.filled = t.paramFlags(ctx)
	for _, p := range f.params {
		f.add(p.flag, p, p.boolDefault())
		f.add(paramPrefix+p.flag, p, p.boolDefault())
	}
	own := newFlagSet()
	o.addTo(own, command)
	own.BoolFunc("help", "print this", func(string) error {
		f.wantHelp = true
		return nil
	})
	own.VisitAll(func(o *pflag.Flag) {
		f.own = append(f.own, o)
		f.add(f.prefix+o.Name, o.Value, o.NoOptDefVal)
		if !f.taken(o.Name) {
			f.add(o.Name, o.Value, o.NoOptDefVal)
		}
	})
	cmd.InheritedFlags().VisitAll(func(o *pflag.Flag) { // of a root that is not ours
		if f.set.Lookup(o.Name) == nil {
			f.set.AddFlag(o)
		}
	})
	return f
}

func newFlagSet() *pflag.FlagSet {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.SetInterspersed(false) // flags behind a word are not read
	return set
}

// add adds a flag; without is its value if it stands alone, "" if it cannot.
func (f *taskFlags) add(name string, value pflag.Value, without string) {
	f.set.VarPF(value, name, "", "").NoOptDefVal = without
}

// taken reports whether a parameter has the name.
func (f *taskFlags) taken(name string) bool {
	return slices.ContainsFunc(f.params, func(p *paramFlag) bool { return p.flag == name })
}

// showTo adds the flags as people use them to a command that does not read them: cobra
// completes their names and writes them into man pages.
func (f *taskFlags) showTo(set *pflag.FlagSet) {
	for _, p := range f.params {
		if p.flag != "help" { // of that cobra makes a flag itself
			set.VarPF(p, p.flag, "", p.usage()).NoOptDefVal = p.boolDefault()
		}
	}
	for _, own := range f.own {
		name := own.Name
		if f.taken(name) {
			name = f.prefix + name
		}
		if name != "help" {
			set.VarPF(own.Value, name, "", own.Usage).NoOptDefVal = own.NoOptDefVal
		}
	}
}

// parse reads the flags into the parameters and the options. It returns pflag.ErrHelp
// if help is asked for.
func (f *taskFlags) parse(args []string) error {
	err := f.set.Parse(f.normal(args))
	switch {
	case f.wantHelp, errors.Is(err, pflag.ErrHelp), len(args) == 1 && isHelp(args[0]):
		return pflag.ErrHelp
	case err != nil:
		return f.explain(flagProblem(f.command, f.set, err))
	case f.set.NArg() > 0 && len(f.task.Spec().Secrets) > 0:
		return usagef(f.command, "unexpected argument") // it may be the secret
	case f.set.NArg() > 0:
		hint := ""
		if _, err := parseDuration(f.set.Arg(0)); err == nil && f.set.Lookup(f.prefix+"wait") != nil {
			hint = "; a limit of the wait is written --wait=" + f.set.Arg(0)
		}
		return usagef(f.command, "unexpected argument %q%s", f.set.Arg(0), hint)
	}
	for _, p := range f.params {
		if p.err != nil {
			return usagef(f.command, "%v", p.err)
		}
	}
	if missing := missingParams(f.params); len(missing) > 0 {
		return usagef(f.command, "missing %s", strings.Join(missing, ", "))
	}
	return nil
}

// normal returns the arguments with --name in place of -name, and --name=true in place
// of "--name true": no words stand among these flags that it could be taken for.
func (f *taskFlags) normal(args []string) (normal []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, hyphen := strings.CutPrefix(arg, "-")
		if !hyphen || name == "" || name == "-" {
			return append(normal, args[i:]...) // no flag
		}
		name, _, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		known := f.set.Lookup(name)
		if arg == "-h" && known == nil {
			return append(normal, args[i:]...)
		}
		if !strings.HasPrefix(arg, "--") {
			arg = "-" + arg
		}
		normal = append(normal, arg)
		switch {
		case known == nil:
			return append(normal, args[i+1:]...) // package pflag returns the error
		case hasValue || i+1 == len(args):
		case known.NoOptDefVal == "":
			i++
			normal = append(normal, args[i])
		case args[i+1] == "true" || args[i+1] == "false":
			i++
			normal[len(normal)-1] += "=" + args[i]
		}
	}
	return normal
}

// explain adds to an error with a flag that is a parameter's how the flag of the
// command is written that would else have this name.
func (f *taskFlags) explain(err error) error {
	var usage *usageError
	if !errors.As(err, &usage) {
		return err
	}
	for _, own := range f.own {
		name := "flag --" + own.Name
		wrong := strings.Contains(usage.message, name+": ") || strings.Contains(usage.message, name+" needs ")
		if f.taken(own.Name) && wrong {
			usage.message += fmt.Sprintf("; it is a parameter of the task, and --%s%s the flag of the command", f.prefix, own.Name)
		}
	}
	return err
}

// print prints the help of the task's command.
func (f *taskFlags) print() {
	c := f.c
	fmt.Fprintf(c.stdout, "Usage: %s %s [flags]\n\n", c.name(), f.command)
	if doc := strings.TrimSpace(f.task.Spec().Doc); doc != "" {
		fmt.Fprintf(c.stdout, "%s\n\n", doc)
	}
	fmt.Fprintf(c.stdout, "Example: %s %s%s\n", c.name(), f.command, exampleFlags(f.params))
	w := c.table()
	if len(f.params) > 0 {
		fmt.Fprint(w, "\nParameters:\n")
		for _, p := range f.params {
			fmt.Fprintf(w, "  --%s\t%s\n", p.flag, p.usage())
		}
		fmt.Fprint(w, "\nA value @FILE is read from that file, and @- from standard input; @@ is one @.\n")
	}
	clash := false
	fmt.Fprint(w, "\nFlags:\n")
	for _, own := range f.own {
		switch {
		case f.taken(own.Name):
			clash = true
			printFlag(w, f.prefix+own.Name, own)
		case own.Name != "help":
			printFlag(w, own.Name, own)
		}
	}
	w.Flush()
	if clash {
		fmt.Fprintf(c.stdout, "\n--%sNAME always means the parameter, --%sNAME the flag of the command.\n", paramPrefix, f.prefix)
	}
}

// exampleFlags shows how the parameters are given that must be.
func exampleFlags(params []*paramFlag) string {
	var b strings.Builder
	for _, p := range params {
		if !p.Optional {
			fmt.Fprintf(&b, " --%s …", p.flag)
		}
	}
	return b.String()
}

// taskGroup returns exec or queue: a command with one below it for each task.
func (c *commandLine) taskGroup(m manual, run func(ctx context.Context, o *taskOptions, t *task, payload []byte) error) *cobra.Command {
	group := c.command(m, nil, nil)
	group.DisableFlagParsing = true
	group.RunE = func(group *cobra.Command, args []string) error {
		switch {
		case c.err != nil:
			return c.err
		case len(args) > 0 && isHelp(args[0]):
			return group.Help()
		case len(args) == 0 || isFlag(args[0]):
			return usagef(group.Name(), "the name of a task is needed; %s list shows them", c.name())
		}
		t := c.taskNamed(args[0])
		if t == nil {
			return c.unknownTask(group.Name(), args[0])
		}
		cmd, _, err := group.Find([]string{t.Name()})
		if err != nil {
			return err
		}
		cmd.SetContext(group.Context())
		return cmd.RunE(cmd, args[1:])
	}
	group.ValidArgsFunction = c.completeHyphens
	for _, t := range c.tasks.list {
		c.addTask(group, t, run)
	}
	shown := newFlagSet()
	new(taskOptions).addTo(shown, group.Name())
	group.Flags().AddFlagSet(shown)
	return group
}

// addTask adds the command of one task.
func (c *commandLine) addTask(group *cobra.Command, t *task, run func(ctx context.Context, o *taskOptions, t *task, payload []byte) error) {
	cmd := &cobra.Command{
		Use: t.Name(), Short: summary(t.Spec().Doc), Long: t.Spec().Doc,
		DisableFlagParsing: true, SilenceUsage: true, ValidArgsFunction: c.completeTask,
	}
	for _, name := range t.names() {
		if hyphens := strings.ReplaceAll(name, "_", "-"); hyphens != name {
			cmd.Aliases = append(cmd.Aliases, hyphens)
		}
	}
	cmd.Aliases = append(cmd.Aliases, t.Spec().Aliases...)
	cmd.RunE = c.runE(func(ctx context.Context, cmd *cobra.Command, args []string) error {
		o := &taskOptions{}
		f := c.newTaskFlags(ctx, cmd, t, o)
		err := f.parse(args)
		switch {
		case errors.Is(err, pflag.ErrHelp):
			return cmd.Help()
		case err == nil:
			err = o.check(f.command)
		}
		if err != nil {
			return err
		}
		payload, err := t.EncodeParams(f.filled)
		if err != nil {
			return fmt.Errorf("task %s: %w", t.Name(), err)
		}
		return run(ctx, o, t, payload)
	})
	c.taskOf[cmd] = t
	group.AddCommand(cmd)
	c.newTaskFlags(context.Background(), cmd, t, &taskOptions{}).showTo(cmd.Flags())
}

// summary returns the first sentence of a doc comment, on one line.
func summary(doc string) string {
	first, _, _ := strings.Cut(strings.Join(strings.Fields(doc), " "), ". ")
	return text.Printable(strings.TrimSuffix(first, "."))
}

// param is a parameter of a task as the command line knows it.
type param struct {
	taskrt.Param
	flag string // kebab-case
}

// params returns the parameters of the task, in their order. Each has the flag of its
// kebab-case name; those that would have the same one, such as dataID and dataId, have
// the flag of their own name.
func (t *task) params() []param {
	var params []param
	uses := make(map[string]int)
	for _, p := range t.Params() {
		params = append(params, param{p, naming.Kebab(p.Name)})
		uses[naming.Kebab(p.Name)]++
	}
	for i, p := range params {
		if uses[p.flag] > 1 {
			params[i].flag = p.Name
		}
	}
	return params
}

// recovered makes an error of a panic in the application's marshalling.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the program's own marshalling panicked: %.200s", fmt.Sprint(r))
	}
}
