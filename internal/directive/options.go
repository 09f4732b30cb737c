package directive

import (
	"fmt"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/internal/naming"
)

// Options are the options of one function, from its directives. A zero field means
// that the directive is absent.
type Options struct {
	Kind     string // io or cpu
	Name     string
	NamePos  token.Pos // position of the name in //task:name
	Aliases  []Word
	Queue    string
	Priority string // high, medium or low

	Every       time.Duration
	Cron        string    // a valid expression
	Zone        string    // of Cron
	SchedulePos token.Pos // position of //task:every or //task:cron; invalid if both are absent
	Start       bool
	Jitter      time.Duration
	Missed      string // skip, latest or all
	MissedMax   int
	SkipOverlap bool

	Retry   *Retry
	Timeout time.Duration
	Expire  time.Duration
	Result  *time.Duration

	Unique      *Unique
	Concurrency *Concurrency
	Rate        *Rate
	Fair        *Word // a path, as in By

	Memory int64    // bytes
	Env    []string // KEY=value

	Secrets  []Word // parameters
	Defaults []Default
	Renames  []Rename
	Tags     []string
}

// Unique is //task:unique.
type Unique struct {
	For time.Duration
	By  []Word

	UntilStart bool // freed when the run starts instead of at its end
}

// Concurrency is //task:concurrency.
type Concurrency struct {
	Max int
	By  []Word
}

// Rate is //task:rate: at most Max starts within Per.
type Rate struct {
	Max int
	Per time.Duration
	By  []Word // parameters or their fields, such as order.CustomerID

	Smooth bool // starts are spread over Per
}

// Default is //task:default: a parameter and unparsed Go source, whose meaning
// depends on the parameter's type.
type Default struct {
	Param, Value Word
}

// Rename is //task:rename: a parameter's name and an old one.
type Rename struct {
	Param, Old Word
}

// Retry is //task:retry. Zero fields mean the runtime's defaults.
type Retry struct {
	Retries  int // after the first attempt
	Min, Max time.Duration
	Factor   float64
}

// maxRetries keeps the number of attempts far from overflow.
const maxRetries = 1_000_000

// fold collects the options of one function.
type fold struct {
	fset     *token.FileSet
	options  Options
	kind     *Directive
	seen     map[string]*Directive // the first directive of each name
	problems []*Problem
}

// parts are a directive's arguments, split into words, keys and flags.
type parts struct {
	*Directive
	usage string
	words []Word
	keys  map[string]Word // by key; the position is the value's
	flags []string
}

// Fold returns the options of a function's directives and every problem with them.
// The function is a task if it has a kind.
func Fold(fset *token.FileSet, directives []*Directive) (Options, []*Problem) {
	f := &fold{fset: fset, seen: map[string]*Directive{}}
	for _, d := range directives {
		r := table[d.Name]
		first := f.seen[d.Name]
		if first != nil && !r.repeatable {
			f.problem(d.Pos, "%s is repeated; first at %s", d, f.at(first.Pos))
			continue
		}
		if first == nil {
			f.seen[d.Name] = d
		}
		if p := f.sort(d, r); p != nil {
			r.apply(f, p)
		}
	}
	if f.kind == nil {
		for _, d := range directives {
			if table[d.Name].option {
				f.problem(d.Pos, "%s requires //task:io or //task:cpu", d)
				break
			}
		}
	}
	f.together()
	return f.options, f.problems
}

// together reports directives that conflict with another or require one that is
// absent.
func (f *fold) together() {
	every, cron := f.seen["every"], f.seen["cron"]
	if every != nil && cron != nil {
		first, second := every, cron
		if second.Pos < first.Pos {
			first, second = second, first
		}
		f.problem(second.Pos, "%s conflicts with %s at %s: a task has one schedule", second, first, f.at(first.Pos))
	}
	for _, name := range []string{"missed", "overlap"} {
		if d := f.seen[name]; d != nil && every == nil && cron == nil {
			f.problem(d.Pos, "%s requires //task:every or //task:cron", d)
		}
	}
	for _, name := range []string{"memory", "env"} {
		if d := f.seen[name]; d != nil && f.options.Kind == "io" {
			f.problem(d.Pos, "%s is for //task:cpu: an io task has no process of its own", d)
		}
	}
}

func (f *fold) problem(pos token.Pos, format string, args ...any) {
	f.problems = append(f.problems, problemf(pos, format, args...))
}

// at returns another line for a message. It needs no path, since the file is the
// same.
func (f *fold) at(pos token.Pos) string {
	return fmt.Sprintf("line %d", f.fset.PositionFor(pos, false).Line)
}

// sort splits the arguments into words, keys and flags, and checks them against the
// rule. It returns nil after a problem.
func (f *fold) sort(d *Directive, r rule) *parts {
	p := &parts{Directive: d, usage: r.usage, keys: map[string]Word{}}
	if r.source {
		return p
	}
	before := len(f.problems)
	for _, arg := range d.Args {
		key, value, isKey := strings.Cut(arg.Arg, "=")
		switch {
		case r.max >= 0 && isKey && (len(p.words) >= r.min || slices.Contains(r.keys, key)):
			f.sortKey(p, r, key, Word{value, arg.Pos})
		case r.max < 0 || len(p.words) < r.max:
			p.words = append(p.words, Word{arg.Arg, arg.Pos})
		case slices.Contains(p.flags, arg.Arg):
			f.problem(arg.Pos, "%s: %s is repeated", d, arg.Arg)
		case slices.Contains(r.flags, arg.Arg):
			p.flags = append(p.flags, arg.Arg)
		case r.quoted && !d.quoted(p.words[0].Pos):
			f.problem(arg.Pos, "%s: unexpected argument %q; quote an argument with spaces, as in %s", d, arg.Arg, r.usage)
			return nil
		default:
			f.problem(arg.Pos, "%s: unexpected argument %q%s", d, arg.Arg, Suggest(arg.Arg, append(slices.Clone(r.flags), r.keys...)))
		}
	}
	if len(p.words) < r.min {
		f.problem(d.Pos, "%s needs %s, as in %s", d, count(r.min), r.usage)
	}
	if len(f.problems) > before {
		return nil
	}
	return p
}

func count(n int) string {
	if n == 1 {
		return "an argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

func (f *fold) sortKey(p *parts, r rule, key string, value Word) {
	_, twice := p.keys[key]
	switch {
	case !slices.Contains(r.keys, key) && len(r.keys) == 0:
		f.problem(value.Pos, "%s has no key %q", p, key)
	case !slices.Contains(r.keys, key):
		f.problem(value.Pos, "%s has no key %q%s; known: %s", p, key, Suggest(key, r.keys), strings.Join(r.keys, ", "))
	case twice:
		f.problem(value.Pos, "%s: %s= is repeated", p, key)
	case value.Text == "":
		f.problem(value.Pos, "%s: %s= has no value", p, key)
	}
	value.Pos += token.Pos(len(key) + len("="))
	p.keys[key] = value
}

// Suggest returns the end of a message about an unknown word: the known word that was
// most likely meant, or "" if none is similar.
func Suggest(word string, known []string) string {
	if hint := closest(word, known); hint != "" {
		return fmt.Sprintf(" (did you mean %q?)", hint)
	}
	return ""
}

func applyKind(f *fold, p *parts) {
	if f.kind != nil {
		f.problem(p.Pos, "%s conflicts with %s at %s: a task has one kind", p, f.kind, f.at(f.kind.Pos))
		return
	}
	f.kind = p.Directive
	f.options.Kind = p.Name
}

func applyName(f *fold, p *parts) {
	f.options.Name, f.options.NamePos = f.name(p), p.words[0].Pos
}

func applyQueue(f *fold, p *parts) { f.options.Queue = f.name(p) }

// applyAlias adds another name under which runs may be queued.
func applyAlias(f *fold, p *parts) {
	arg := p.words[0]
	if f.name(p) == "" {
		return
	}
	for _, other := range f.options.Aliases {
		if other.Text == arg.Text {
			f.problem(arg.Pos, "%s: %s is repeated; first at %s", p, arg.Text, f.at(other.Pos))
			return
		}
	}
	f.options.Aliases = append(f.options.Aliases, arg)
}

func (f *fold) name(p *parts) string {
	arg := p.words[0]
	if why := naming.Problem(arg.Text); why != "" {
		f.problem(arg.Pos, "%s: %s", p, why)
		return ""
	}
	return arg.Text
}

func applyPriority(f *fold, p *parts) {
	f.options.Priority = f.choice(p, "priority", "high", "medium", "low")
}

func applyTimeout(f *fold, p *parts) { f.options.Timeout = f.duration(p, p.words[0], false) }

func applyExpire(f *fold, p *parts) { f.options.Expire = f.duration(p, p.words[0], false) }

func applyResult(f *fold, p *parts) {
	d := f.duration(p, p.words[0], true)
	f.options.Result = &d
}

// duration parses a Go duration above zero, or if zero, at least zero.
func (f *fold) duration(p *parts, arg Word, zero bool) time.Duration {
	d, err := time.ParseDuration(arg.Text)
	switch {
	case err != nil:
		f.problem(arg.Pos, "%s: %q is not a duration; write a number with its unit, as in 30s, 5m or 1h30m", p, arg.Text)
	case d < 0 && zero:
		f.problem(arg.Pos, "%s: %s is below zero", p, arg.Text)
	case d < 0, d == 0 && !zero:
		f.problem(arg.Pos, "%s: %s is not above zero", p, arg.Text)
	default:
		return d
	}
	return 0
}

func applyRetry(f *fold, p *parts) {
	r := &Retry{}
	arg := p.words[0]
	n, err := strconv.Atoi(arg.Text)
	if err != nil || n < 0 || n > maxRetries {
		f.problem(arg.Pos, "%s: %q is not a number of retries; write 0 to %d", p, arg.Text, maxRetries)
	}
	r.Retries = n
	if arg, ok := p.keys["backoff"]; ok {
		r.Min, r.Max = f.backoff(p, arg)
	}
	if arg, ok := p.keys["factor"]; ok {
		r.Factor, err = strconv.ParseFloat(arg.Text, 64)
		if err != nil || !(r.Factor >= 1 && r.Factor <= 1000) {
			f.problem(arg.Pos, "%s: factor %q is not a number from 1 to 1000", p, arg.Text)
		}
	}
	f.options.Retry = r
}

// backoff parses the shortest and the longest wait, such as 1s..10m.
func (f *fold) backoff(p *parts, arg Word) (low, high time.Duration) {
	from, to, ok := strings.Cut(arg.Text, "..")
	if !ok {
		f.problem(arg.Pos, "%s: backoff %q is not a range; write the shortest and the longest wait, as in 1s..10m", p, arg.Text)
		return 0, 0
	}
	before := len(f.problems)
	low = f.duration(p, Word{from, arg.Pos}, false)
	high = f.duration(p, Word{to, arg.Pos + token.Pos(len(from)+len(".."))}, false)
	if len(f.problems) == before && low > high {
		f.problem(arg.Pos, "%s: the shortest wait %s is longer than the longest %s", p, from, to)
	}
	return low, high
}

func applyTags(f *fold, p *parts) {
	for _, arg := range p.words {
		switch why := naming.Problem(arg.Text); {
		case why != "":
			f.problem(arg.Pos, "%s: %s", p, why)
		case slices.Contains(f.options.Tags, arg.Text):
			f.problem(arg.Pos, "%s: %s is repeated", p, arg.Text)
		default:
			f.options.Tags = append(f.options.Tags, arg.Text)
		}
	}
}
