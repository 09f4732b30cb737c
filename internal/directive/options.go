package directive

import (
	"fmt"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options is what the directives of one function say. The zero value of a
// field means that its directive is absent.
type Options struct {
	Kind     string // io or cpu
	Name     string
	NamePos  token.Pos // of the name in //task:name
	Queue    string
	Priority string // high, medium or low
	Every    time.Duration
	EveryPos token.Pos // of //task:every
	Start    bool
	Retry    *Retry
	Timeout  time.Duration
	Expire   time.Duration
	Result   *time.Duration
	Tags     []string
}

// Retry is what //task:retry says; zero fields mean the runtime's defaults.
type Retry struct {
	Retries  int // after the first attempt
	Min, Max time.Duration
	Factor   float64
}

// maxName is the broker's limit on the bytes of a task's or queue's name.
const maxName = 128

// maxRetries keeps attempts far from overflow.
const maxRetries = 1_000_000

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// fold collects the options of one function.
type fold struct {
	fset     *token.FileSet
	options  Options
	kind     *Directive
	problems []*Problem
}

// parts are a directive's arguments, sorted out.
type parts struct {
	*Directive
	words []argument
	keys  map[string]argument
	flags []string
}

// argument is the value of a positional argument or a key, at its position.
type argument struct {
	text string
	pos  token.Pos
}

// Fold makes options of the directives of one function and returns every
// problem it finds. The function at pos is a task when it has a kind.
func Fold(fset *token.FileSet, directives []*Directive) (Options, []*Problem) {
	f := &fold{fset: fset}
	seen := map[string]*Directive{}
	for _, d := range directives {
		r := table[d.Name]
		if first := seen[d.Name]; first != nil && !r.repeatable {
			f.problem(d.Pos, "%s stands twice; first at %s", d, f.at(first.Pos))
			continue
		}
		seen[d.Name] = d
		if !r.supported {
			f.problem(d.Pos, "%s is not supported yet", d)
			continue
		}
		if p := f.sort(d, r); p != nil {
			r.apply(f, p)
		}
	}
	if f.kind == nil {
		for _, d := range directives {
			if table[d.Name].option {
				f.problem(d.Pos, "%s needs //task:io or //task:cpu beside it", d)
				break
			}
		}
	}
	return f.options, f.problems
}

func (f *fold) problem(pos token.Pos, format string, args ...any) {
	f.problems = append(f.problems, problemf(pos, format, args...))
}

// at names another line for a message: the same file needs no path.
func (f *fold) at(pos token.Pos) string {
	return fmt.Sprintf("line %d", f.fset.PositionFor(pos, false).Line)
}

// sort tells positional arguments, keys and flags apart and holds them against
// the rule. It returns nil after a problem.
func (f *fold) sort(d *Directive, r rule) *parts {
	p := &parts{Directive: d, keys: map[string]argument{}}
	before := len(f.problems)
	for _, arg := range d.Args {
		key, value, isKey := strings.Cut(arg.Arg, "=")
		switch {
		case r.max >= 0 && isKey && (len(p.words) >= r.min || slices.Contains(r.keys, key)):
			f.sortKey(p, r, key, argument{text: value, pos: arg.Pos})
		case r.max < 0 || len(p.words) < r.max:
			p.words = append(p.words, argument{text: arg.Arg, pos: arg.Pos})
		case slices.Contains(r.flags, arg.Arg):
			p.flags = append(p.flags, arg.Arg)
		default:
			f.problem(arg.Pos, "%s: unexpected argument %q%s", d, arg.Arg, suggestion(arg.Arg, append(slices.Clone(r.flags), r.keys...)))
		}
	}
	if len(p.words) < r.min {
		f.problem(d.Pos, "%s needs an argument, as in %s", d, r.usage)
	}
	if len(f.problems) > before {
		return nil
	}
	return p
}

func (f *fold) sortKey(p *parts, r rule, key string, value argument) {
	_, twice := p.keys[key]
	switch {
	case !slices.Contains(r.keys, key) && len(r.keys) == 0:
		f.problem(value.pos, "%s has no key %q", p, key)
	case !slices.Contains(r.keys, key):
		f.problem(value.pos, "%s has no key %q%s; known: %s", p, key, suggestion(key, r.keys), strings.Join(r.keys, ", "))
	case slices.Contains(r.refused, key):
		f.problem(value.pos, "%s: %s= is not supported yet", p, key)
	case twice:
		f.problem(value.pos, "%s: %s= stands twice", p, key)
	case value.text == "":
		f.problem(value.pos, "%s: %s= has no value", p, key)
	}
	value.pos += token.Pos(len(key) + len("="))
	p.keys[key] = value
}

func suggestion(word string, known []string) string {
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
	f.options.Name, f.options.NamePos = f.name(p), p.words[0].pos
}

func applyQueue(f *fold, p *parts) { f.options.Queue = f.name(p) }

func (f *fold) name(p *parts) string {
	arg := p.words[0]
	if why := NameProblem(arg.text); why != "" {
		f.problem(arg.pos, "%s: %s", p, why)
		return ""
	}
	return arg.text
}

// NameProblem says why a name cannot be a task's or a queue's, or returns "".
func NameProblem(name string) string {
	switch {
	case len(name) > maxName:
		return fmt.Sprintf("a name of %d bytes is too long; the limit is %d", len(name), maxName)
	case !validName.MatchString(name):
		return fmt.Sprintf("%q is not a name; write letters, digits, '_', '-' and '.', a letter or digit first", name)
	}
	return ""
}

func applyPriority(f *fold, p *parts) {
	levels := []string{"high", "medium", "low"}
	arg := p.words[0]
	if !slices.Contains(levels, arg.text) {
		f.problem(arg.pos, "%s: unknown priority %q%s; write high, medium or low", p, arg.text, suggestion(arg.text, levels))
		return
	}
	f.options.Priority = arg.text
}

func applyEvery(f *fold, p *parts) {
	f.options.Every = f.duration(p, p.words[0], false)
	f.options.EveryPos = p.Pos
	f.options.Start = len(p.flags) > 0
}

func applyTimeout(f *fold, p *parts) { f.options.Timeout = f.duration(p, p.words[0], false) }

func applyExpire(f *fold, p *parts) { f.options.Expire = f.duration(p, p.words[0], false) }

func applyResult(f *fold, p *parts) {
	d := f.duration(p, p.words[0], true)
	f.options.Result = &d
}

// duration reads a Go duration above zero, or from zero on.
func (f *fold) duration(p *parts, arg argument, zero bool) time.Duration {
	d, err := time.ParseDuration(arg.text)
	switch {
	case err != nil:
		f.problem(arg.pos, "%s: %q is not a duration; write a number with its unit, as in 30s, 5m or 1h30m", p, arg.text)
	case d < 0 && zero:
		f.problem(arg.pos, "%s: %s is below zero", p, arg.text)
	case d < 0, d == 0 && !zero:
		f.problem(arg.pos, "%s: %s is not above zero", p, arg.text)
	default:
		return d
	}
	return 0
}

func applyRetry(f *fold, p *parts) {
	r := &Retry{}
	arg := p.words[0]
	n, err := strconv.Atoi(arg.text)
	if err != nil || n < 0 || n > maxRetries {
		f.problem(arg.pos, "%s: %q is not a number of retries; write 0 to %d", p, arg.text, maxRetries)
	}
	r.Retries = n
	if arg, ok := p.keys["backoff"]; ok {
		r.Min, r.Max = f.backoff(p, arg)
	}
	if arg, ok := p.keys["factor"]; ok {
		r.Factor, err = strconv.ParseFloat(arg.text, 64)
		if err != nil || !(r.Factor >= 1 && r.Factor <= 1000) {
			f.problem(arg.pos, "%s: factor %q is not a number from 1 to 1000", p, arg.text)
		}
	}
	f.options.Retry = r
}

// backoff reads the shortest and the longest wait, as in 1s..10m.
func (f *fold) backoff(p *parts, arg argument) (low, high time.Duration) {
	from, to, ok := strings.Cut(arg.text, "..")
	if !ok {
		f.problem(arg.pos, "%s: backoff %q is not a range; write the shortest and the longest wait, as in 1s..10m", p, arg.text)
		return 0, 0
	}
	before := len(f.problems)
	low = f.duration(p, argument{text: from, pos: arg.pos}, false)
	high = f.duration(p, argument{text: to, pos: arg.pos + token.Pos(len(from)+len(".."))}, false)
	if len(f.problems) == before && low > high {
		f.problem(arg.pos, "%s: the shortest wait %s is longer than the longest %s", p, from, to)
	}
	return low, high
}

func applyTags(f *fold, p *parts) {
	for _, arg := range p.words {
		switch why := NameProblem(arg.text); {
		case why != "":
			f.problem(arg.pos, "%s: %s", p, why)
		case slices.Contains(f.options.Tags, arg.text):
			f.problem(arg.pos, "%s: %s stands twice", p, arg.text)
		default:
			f.options.Tags = append(f.options.Tags, arg.text)
		}
	}
}
