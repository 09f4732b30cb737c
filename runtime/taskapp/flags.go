package taskapp

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// flags returns the flag set of a command, which writes nothing itself.
func (a *app) flags(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	return set
}

// manual is what a command says of itself.
type manual struct {
	usage   string // its words and flags
	intro   string
	example string // what follows the program's name
}

// parse reads a command's flags; no word may be among them. Asked for help it
// prints the manual and the flags, and returns flag.ErrHelp.
func (a *app) parse(set *flag.FlagSet, args []string, m manual) error {
	words, err := a.parseWords(set, args, m)
	if err == nil && len(words) > 0 {
		return usagef(set.Name(), "unexpected argument %q", words[0])
	}
	return err
}

// parseWords is parse for commands that take words, which it returns: they may
// stand before, between and behind the flags, and after -- be like flags.
func (a *app) parseWords(set *flag.FlagSet, args []string, m manual) (words []string, err error) {
	for {
		if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
			a.printManual(m)
			a.printFlags(set)
			return nil, err
		} else if err != nil {
			return nil, flagError(set, err)
		}
		rest := set.Args()
		read := args[:len(args)-len(rest)]
		if len(rest) == 0 || len(read) > 0 && read[len(read)-1] == "--" {
			return append(words, rest...), nil
		}
		words, args = append(words, rest[0]), rest[1:]
	}
}

// flagError says what package flag says of a flag as it is written here.
func flagError(set *flag.FlagSet, err error) error {
	text := err.Error()
	if name, unknown := strings.CutPrefix(text, "flag provided but not defined: -"); unknown {
		var known []string
		set.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
		hint := ""
		if near := closest(name, known); near != "" {
			hint = "; did you mean --" + near + "?"
		}
		return usagef(set.Name(), "unknown flag --%s%s", name, hint)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return usagef(set.Name(), "flag --%s needs a value", name)
	}
	if rest, ok := strings.CutPrefix(text, "invalid boolean value "); ok {
		text = "invalid value " + strings.Replace(rest, " for -", " for flag -", 1)
	}
	if rest, ok := strings.CutSuffix(text, ": parse error"); ok { // the one of its own flags that are used here
		text = rest + ": neither true nor false"
	}
	return usagef(set.Name(), "%s", strings.Replace(text, " for flag -", " for flag --", 1))
}

func (a *app) printManual(m manual) {
	fmt.Fprintf(a.stdout, "Usage: %s %s\n\n", a.name, m.usage)
	if intro := strings.TrimSpace(m.intro); intro != "" {
		fmt.Fprintf(a.stdout, "%s\n\n", intro)
	}
	fmt.Fprintf(a.stdout, "Example: %s %s\n", a.name, m.example)
}

// table returns what lines up the columns of what is printed.
func (a *app) table() *tabwriter.Writer { return tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0) }

func (a *app) printFlags(set *flag.FlagSet) {
	fmt.Fprintln(a.stdout, "\nFlags:")
	w := a.table()
	set.VisitAll(func(f *flag.Flag) { printFlag(w, f.Name, f) })
	w.Flush()
}

// printFlag prints a flag under a name that it has.
func printFlag(w io.Writer, name string, f *flag.Flag) {
	def := ""
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
		def = fmt.Sprintf(" (default %s)", strings.ToLower(f.DefValue))
	}
	fmt.Fprintf(w, "  --%s\t%s%s\n", name, f.Usage, def)
}

// word reads the flags of a command that takes one word.
func (a *app) word(set *flag.FlagSet, args []string, what string, m manual) (string, error) {
	words, err := a.parseWords(set, args, m)
	switch {
	case err != nil:
		return "", err
	case len(words) == 0:
		return "", usagef(set.Name(), "%s is needed", what)
	case len(words) > 1:
		return "", usagef(set.Name(), "unexpected argument %q", words[1])
	}
	return words[0], nil
}

// given reports whether a flag was among the arguments.
func given(set *flag.FlagSet, name string) (found bool) {
	set.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// durationVar adds a flag whose error says how a duration is written.
func durationVar(set *flag.FlagSet, d *time.Duration, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*d, err = parseDuration(text)
		return err
	})
}

// timeVar adds a flag for an instant.
func timeVar(set *flag.FlagSet, t *time.Time, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*t, err = parseTime(text)
		return err
	})
}

// textVar adds a flag that is not to be empty: to choose by a variable that is
// not set would be to choose all.
func textVar(set *flag.FlagSet, s *string, name, usage string) {
	set.Func(name, usage, func(text string) error {
		if text == "" {
			return errors.New("it is empty")
		}
		*s = text
		return nil
	})
}

// intVar adds a flag whose error says that a number is needed.
func intVar(set *flag.FlagSet, n *int, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*n, err = strconv.Atoi(text)
		return numberError(err, "a whole number", reflect.TypeFor[int]())
	})
}
