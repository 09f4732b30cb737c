package runtime

import (
	"errors"
	"flag"
	"fmt"
	"io"
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
			fmt.Fprintf(a.stdout, "Usage: %s %s\n\n%s\n\nExample: %s %s\n\nFlags:\n", a.name, m.usage, strings.TrimSpace(m.intro), a.name, m.example)
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
	if name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); unknown {
		var known []string
		set.VisitAll(func(f *flag.Flag) { known = append(known, f.Name) })
		hint := ""
		if near := closest(name, known); near != "" {
			hint = "; did you mean --" + near + "?"
		}
		return usagef(set.Name(), "unknown flag --%s%s", name, hint)
	}
	return usagef(set.Name(), "%s", strings.ReplaceAll(err.Error(), " for flag -", " for flag --"))
}

func (a *app) printFlags(set *flag.FlagSet) {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	set.VisitAll(func(f *flag.Flag) {
		def := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			def = fmt.Sprintf(" (default %s)", strings.ToLower(f.DefValue))
		}
		fmt.Fprintf(w, "  --%s\t%s%s\n", f.Name, f.Usage, def)
	})
	w.Flush()
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

// durationVar adds a flag whose error says how a duration is written.
func durationVar(set *flag.FlagSet, d *time.Duration, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*d, err = time.ParseDuration(text)
		if err != nil {
			return errors.New("not a duration such as 1m30s")
		}
		return nil
	})
}
