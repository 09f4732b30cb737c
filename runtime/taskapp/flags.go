package taskapp

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manual is the text of a command's help.
type manual struct {
	use     string // its words
	short   string
	long    string
	example string // behind the program's name
}

// command returns a command whose words takes checks.
func (c *commandLine) command(m manual, takes cobra.PositionalArgs, run func(ctx context.Context, cmd *cobra.Command, words []string) error) *cobra.Command {
	return &cobra.Command{
		Use: m.use, Short: m.short, Long: m.long, Example: m.example,
		Args: takes, RunE: c.runE(run), SilenceUsage: true, ValidArgsFunction: cobra.NoFileCompletions,
	}
}

// noWords refuses words behind a command.
func (c *commandLine) noWords(cmd *cobra.Command, words []string) error {
	if len(words) > 0 {
		return usagef(c.words(cmd), "unexpected argument %q", words[0])
	}
	return nil
}

// oneWord accepts one word behind a command. what names the word in errors.
func (c *commandLine) oneWord(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		switch {
		case len(words) == 0:
			return usagef(c.words(cmd), "%s is needed", what)
		case len(words) > 1:
			return usagef(c.words(cmd), "unexpected argument %q", words[1])
		}
		return nil
	}
}

// flagError returns the usage error for flags that cannot be read.
func (c *commandLine) flagError(cmd *cobra.Command, err error) error {
	return flagProblem(c.words(cmd), cmd.Flags(), err)
}

// flagProblem returns an error of package pflag as a usage error.
func flagProblem(command string, set *pflag.FlagSet, err error) error {
	var (
		unknown *pflag.NotExistError
		empty   *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			name, _, _ = strings.Cut(letters, "=")
		}
		var known []string
		set.VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		hint := ""
		if near := closest(name, known); near != "" {
			hint = "; did you mean --" + near + "?"
		}
		return usagef(command, "unknown flag --%s%s", name, hint)
	case errors.As(err, &empty):
		return usagef(command, "flag --%s needs a value", empty.GetSpecifiedName())
	case errors.As(err, &invalid):
		problem := invalid.Unwrap()
		if invalid.GetFlag().Value.Type() == "bool" {
			problem = errors.New("neither true nor false")
		}
		return usagef(command, "invalid value %q for flag --%s: %v", invalid.GetValue(), invalid.GetFlag().Name, problem)
	}
	return usagef(command, "%v", err)
}

// durationVar adds a flag for a duration. Its error shows how to write one.
func durationVar(set *pflag.FlagSet, d *time.Duration, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*d, err = parseDuration(text)
		return err
	})
}

// timeVar adds a flag for an instant.
func timeVar(set *pflag.FlagSet, t *time.Time, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*t, err = parseTime(text)
		return err
	})
}

// textVar adds a flag that must not be empty: to choose by a variable that is not set
// would choose all.
func textVar(set *pflag.FlagSet, s *string, name, usage string) {
	set.Func(name, usage, func(text string) error {
		if text == "" {
			return errors.New("it is empty")
		}
		*s = text
		return nil
	})
}

// intVar adds a flag for a whole number.
func intVar(set *pflag.FlagSet, n *int, name, usage string) {
	set.Func(name, usage, func(text string) (err error) {
		*n, err = strconv.Atoi(text)
		return numberError(err, "a whole number", reflect.TypeFor[int]())
	})
}
