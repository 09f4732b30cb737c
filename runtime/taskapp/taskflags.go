package taskapp

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
)

// taskFlags are the flags of exec and queue for one task. A parameter is --name
// and --param.name. A flag of the command's own is --exec.name or --queue.name,
// and --name unless a parameter has that name.
type taskFlags struct {
	task   *task
	set    *flag.FlagSet // under all their names
	prefix string        // of the command's own
	params []*paramFlag
	own    []*flag.Flag
	help   bool // is asked for
}

// newTaskFlags returns the flags of a command for a task, and the struct that
// the parameters fill.
func (a *app) newTaskFlags(ctx context.Context, command string, t *task, o *taskOptions) (f *taskFlags, params any) {
	f = &taskFlags{task: t, set: a.flags(command + " " + t.Name()), prefix: command + "."}
	f.params, params = t.paramFlags(ctx)
	for _, p := range f.params {
		f.set.Var(p, p.flag, "")
		f.set.Var(p, paramPrefix+p.flag, "")
	}
	own := a.flags("")
	o.addTo(own, command)
	own.BoolFunc("help", "print this", func(string) error {
		f.help = true
		return nil
	})
	own.VisitAll(func(o *flag.Flag) {
		f.own = append(f.own, o)
		f.set.Var(o.Value, f.prefix+o.Name, "")
		if !f.taken(o.Name) {
			f.set.Var(o.Value, o.Name, "")
		}
	})
	return f, params
}

// taken reports whether a parameter has the name.
func (f *taskFlags) taken(name string) bool {
	return slices.ContainsFunc(f.params, func(p *paramFlag) bool { return p.flag == name })
}

// parse reads the flags into the parameters and the options. Asked for help it
// prints that, and returns flag.ErrHelp.
func (f *taskFlags) parse(a *app, args []string) error {
	name := f.set.Name()
	err := f.set.Parse(f.joinBools(args))
	switch {
	case f.help, errors.Is(err, flag.ErrHelp), len(args) == 1 && isHelp(args[0]):
		f.print(a)
		return flag.ErrHelp
	case err != nil:
		return f.explain(flagError(f.set, err))
	case f.set.NArg() > 0 && len(f.task.Spec().Secrets) > 0:
		return usagef(name, "unexpected argument") // it may be the secret
	case f.set.NArg() > 0:
		return usagef(name, "unexpected argument %q", f.set.Arg(0))
	}
	for _, p := range f.params {
		if p.err != nil {
			return usagef(name, "%v", p.err)
		}
	}
	if missing := missingParams(f.params); len(missing) > 0 {
		return usagef(name, "missing %s", strings.Join(missing, ", "))
	}
	return nil
}

// isHelp reports whether an argument asks for help.
func isHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// joinBools lets a flag that is true or false have its value behind it, as the
// others may: no words stand among these flags that it could be taken for.
func (f *taskFlags) joinBools(args []string) (joined []string) {
	for i := 0; i < len(args); i++ {
		joined = append(joined, args[i])
		if strings.HasPrefix(args[i], "-") && strings.Contains(args[i], "=") {
			continue
		}
		known := f.set.Lookup(strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-"))
		if known == nil || !strings.HasPrefix(args[i], "-") {
			return append(joined, args[i+1:]...) // package flag says what is wrong
		}
		if i+1 == len(args) {
			break
		}
		switch b, ok := known.Value.(interface{ IsBoolFlag() bool }); {
		case !ok || !b.IsBoolFlag():
			i++
			joined = append(joined, args[i])
		case args[i+1] == "true" || args[i+1] == "false":
			i++
			joined[len(joined)-1] += "=" + args[i]
		}
	}
	return joined
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

// print prints what the command says of itself and the task.
func (f *taskFlags) print(a *app) {
	name := f.set.Name()
	a.printManual(manual{name + " [flags]", f.task.Spec().Doc, name + exampleFlags(f.params)})
	w := a.table()
	if len(f.params) > 0 {
		fmt.Fprint(w, "\nParameters:\n")
		for _, p := range f.params {
			fmt.Fprintf(w, "  --%s\t%s\n", p.flag, p.usage())
		}
	}
	if len(f.params) > 0 {
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
		fmt.Fprintf(a.stdout, "\n--%sNAME always means the parameter, --%sNAME the flag of the command.\n", paramPrefix, f.prefix)
	}
}

// helpTask says how exec or queue is used, and with which tasks.
func (a *app) helpTask(command string) error {
	fmt.Fprintf(a.stdout, "Usage: %[1]s %[2]s TASK [--param value…] [flags]\n\n%[1]s %[2]s TASK --help shows the parameters of a task.\n\n", a.name, command)
	if err := a.printTasks(); err != nil {
		return err
	}
	set := a.flags(command)
	new(taskOptions).addTo(set, command)
	a.printFlags(set)
	return nil
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
