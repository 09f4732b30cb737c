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
	From     []string // further queues from which its runs are taken
	Priority string   // high, medium or low

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

	KeepParams bool // for the time of Result

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
	Trace    string // child or link
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

// Default is //task:default: a parameter, or a path to a field of one as in
// order.Items[].Unit, and unparsed Go source, whose meaning
// depends on the parameter's type.
type Default struct {
	Param, Value Word
}

// Rename is //task:rename: a parameter's name and an old one. Bare is one without from=,
// whose two names could be meant in either order.
type Rename struct {
	Param, Old Word
	Bare       bool
}

// Retry is //task:retry. Zero fields mean the runtime's defaults.
type Retry struct {
	Retries  int // after the first attempt
	Min, Max time.Duration
	Factor   float64
}

// maxRetries keeps the number of attempts far from overflow.
const maxRetries = 1_000_000

// builder makes the options of one function.
type builder struct {
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
	lists []Word          // the values of the rule's lists, in their order
	flags []string
}

// OptionsOf returns the options of a function's directives and every problem with them.
// The function is a task if it has a kind.
func OptionsOf(fset *token.FileSet, directives []*Directive) (Options, []*Problem) {
	b := &builder{fset: fset, seen: map[string]*Directive{}}
	for _, d := range directives {
		b.add(d)
	}
	if b.kind == nil {
		b.requireKind(directives)
	}
	b.checkTogether()
	return b.options, b.problems
}

// add sets the options of one directive.
func (b *builder) add(d *Directive) {
	r := table[d.Name]
	first := b.seen[d.Name]
	if first != nil && !r.repeatable {
		b.problem(d.Pos, "%s is repeated; first at %s", d, b.at(first.Pos))
		return
	}
	if first == nil {
		b.seen[d.Name] = d
	}
	if p := b.split(d, r); p != nil {
		r.apply(b, p)
	}
}

// requireKind reports the first directive that only a task can have.
func (b *builder) requireKind(directives []*Directive) {
	i := slices.IndexFunc(directives, func(d *Directive) bool { return table[d.Name].option })
	if i >= 0 {
		b.problem(directives[i].Pos, "%s requires //task:io or //task:cpu", directives[i])
	}
}

// checkTogether reports directives that conflict with another or require one that is
// absent.
func (b *builder) checkTogether() {
	every, cron := b.seen["every"], b.seen["cron"]
	if every != nil && cron != nil {
		first, second := every, cron
		if second.Pos < first.Pos {
			first, second = second, first
		}
		b.problem(second.Pos, "%s conflicts with %s at %s: a task has one schedule", second, first, b.at(first.Pos))
	}
	for _, name := range []string{"missed", "overlap"} {
		if d := b.seen[name]; d != nil && every == nil && cron == nil {
			b.problem(d.Pos, "%s requires //task:every or //task:cron", d)
		}
	}
	for _, name := range []string{"memory", "env"} {
		if d := b.seen[name]; d != nil && b.options.Kind == "io" {
			b.problem(d.Pos, "%s is for //task:cpu: an io task has no process of its own", d)
		}
	}
}

func (b *builder) problem(pos token.Pos, format string, args ...any) {
	b.problems = append(b.problems, problemf(pos, format, args...))
}

// at returns another line for a message. It needs no path, since the file is the
// same.
func (b *builder) at(pos token.Pos) string {
	return fmt.Sprintf("line %d", b.fset.PositionFor(pos, false).Line)
}

// split splits the arguments into words, keys and flags, and checks them against the
// rule. It returns nil after a problem.
func (b *builder) split(d *Directive, r rule) *parts {
	p := &parts{Directive: d, usage: r.usage, keys: map[string]Word{}}
	if r.source {
		return p
	}
	before := len(b.problems)
	for _, arg := range d.Args {
		key, value, isKey := strings.Cut(arg.Arg, "=")
		switch {
		case r.max >= 0 && isKey && (len(p.words) >= r.min || slices.Contains(r.keys, key)):
			b.addKey(p, r, key, Word{value, arg.Pos})
		case r.max < 0 || len(p.words) < r.max:
			p.words = append(p.words, Word{arg.Arg, arg.Pos})
		case slices.Contains(p.flags, arg.Arg):
			b.problem(arg.Pos, "%s: %s is repeated", d, arg.Arg)
		case slices.Contains(r.flags, arg.Arg):
			p.flags = append(p.flags, arg.Arg)
		case r.quoted && !d.quoted(p.words[0].Pos):
			b.problem(arg.Pos, "%s: unexpected argument %q; quote an argument with spaces, as in %s", d, arg.Arg, r.usage)
			return nil
		default:
			b.problem(arg.Pos, "%s: unexpected argument %q%s", d, arg.Arg, Suggest(arg.Arg, append(slices.Clone(r.flags), r.keys...)))
		}
	}
	if len(p.words) < r.min {
		b.problem(d.Pos, "%s needs %s, as in %s", d, count(r.min), r.usage)
	}
	if len(b.problems) > before {
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

func (b *builder) addKey(p *parts, r rule, key string, value Word) {
	_, twice := p.keys[key]
	switch {
	case !slices.Contains(r.keys, key) && len(r.keys) == 0:
		b.problem(value.Pos, "%s has no key %q", p, key)
	case !slices.Contains(r.keys, key):
		b.problem(value.Pos, "%s has no key %q%s; known: %s", p, key, Suggest(key, r.keys), strings.Join(r.keys, ", "))
	case twice && !slices.Contains(r.lists, key):
		b.problem(value.Pos, "%s: %s= is repeated", p, key)
	case value.Text == "":
		b.problem(value.Pos, "%s: %s= has no value", p, key)
	}
	value.Pos += token.Pos(len(key) + len("="))
	p.keys[key] = value
	if slices.Contains(r.lists, key) {
		p.lists = append(p.lists, value)
	}
}

// Suggest returns the end of a message about an unknown word: the known word that was
// most likely meant, or "" if none is similar.
func Suggest(word string, known []string) string {
	if hint := closest(word, known); hint != "" {
		return fmt.Sprintf(" (did you mean %q?)", hint)
	}
	return ""
}

func applyKind(b *builder, p *parts) {
	if b.kind != nil {
		b.problem(p.Pos, "%s conflicts with %s at %s: a task has one kind", p, b.kind, b.at(b.kind.Pos))
		return
	}
	b.kind = p.Directive
	b.options.Kind = p.Name
}

func applyName(b *builder, p *parts) {
	b.options.Name, b.options.NamePos = b.name(p), p.words[0].Pos
}

// applyQueue sets the task's queue, and those from which its runs are taken too.
func applyQueue(b *builder, p *parts) {
	b.options.Queue = b.name(p)
	for _, list := range p.lists {
		for queue := range list.split() {
			switch why := naming.Problem(queue.Text); {
			case why != "":
				b.problem(queue.Pos, "%s: from=%s: %s", p, queue.Text, why)
			case queue.Text == b.options.Queue:
				b.problem(queue.Pos, "%s: from=%s is the task's queue", p, queue.Text)
			case slices.Contains(b.options.From, queue.Text):
				b.problem(queue.Pos, "%s: from=%s is repeated", p, queue.Text)
			default:
				b.options.From = append(b.options.From, queue.Text)
			}
		}
	}
}

// applyAlias adds another name under which runs may be queued.
func applyAlias(b *builder, p *parts) {
	arg := p.words[0]
	if b.name(p) == "" {
		return
	}
	for _, other := range b.options.Aliases {
		if other.Text == arg.Text {
			b.problem(arg.Pos, "%s: %s is repeated; first at %s", p, arg.Text, b.at(other.Pos))
			return
		}
	}
	b.options.Aliases = append(b.options.Aliases, arg)
}

func (b *builder) name(p *parts) string {
	arg := p.words[0]
	if why := naming.Problem(arg.Text); why != "" {
		b.problem(arg.Pos, "%s: %s", p, why)
		return ""
	}
	return arg.Text
}

func applyPriority(b *builder, p *parts) {
	b.options.Priority = b.choice(p, "priority", "high", "medium", "low")
}

func applyTimeout(b *builder, p *parts) { b.options.Timeout = b.duration(p, p.words[0], false) }

func applyExpire(b *builder, p *parts) { b.options.Expire = b.duration(p, p.words[0], false) }

func applyResult(b *builder, p *parts) {
	d := b.duration(p, p.words[0], true)
	b.options.Result = &d
	b.options.KeepParams = len(p.flags) > 0
	if b.options.KeepParams && d == 0 {
		b.problem(p.words[0].Pos, "%s: a time of 0 keeps no record, and no params either; write a time above zero, or omit params", p)
	}
}

// applyTrace sets what the span of an attempt is to the span that queued the run.
func applyTrace(b *builder, p *parts) {
	b.options.Trace = b.choice(p, "relation", "child", "link")
}

// duration parses a Go duration above zero, or if zero, at least zero.
func (b *builder) duration(p *parts, arg Word, zero bool) time.Duration {
	d, err := time.ParseDuration(arg.Text)
	switch {
	case err != nil:
		b.problem(arg.Pos, "%s: %q is not a duration; write a number with its unit, as in 30s, 5m or 1h30m", p, arg.Text)
	case d < 0 && zero:
		b.problem(arg.Pos, "%s: %s is below zero", p, arg.Text)
	case d < 0, d == 0 && !zero:
		b.problem(arg.Pos, "%s: %s is not above zero", p, arg.Text)
	default:
		return d
	}
	return 0
}

func applyRetry(b *builder, p *parts) {
	r := &Retry{}
	arg := p.words[0]
	n, err := strconv.Atoi(arg.Text)
	if err != nil || n < 0 || n > maxRetries {
		b.problem(arg.Pos, "%s: %q is not a number of retries; write 0 to %d", p, arg.Text, maxRetries)
	}
	r.Retries = n
	if arg, ok := p.keys["backoff"]; ok {
		r.Min, r.Max = b.backoff(p, arg)
	}
	if arg, ok := p.keys["factor"]; ok {
		r.Factor, err = strconv.ParseFloat(arg.Text, 64)
		if err != nil || !(r.Factor >= 1 && r.Factor <= 1000) {
			b.problem(arg.Pos, "%s: factor %q is not a number from 1 to 1000", p, arg.Text)
		}
	}
	b.options.Retry = r
}

// backoff parses the shortest and the longest wait, such as 1s..10m.
func (b *builder) backoff(p *parts, arg Word) (low, high time.Duration) {
	from, to, ok := strings.Cut(arg.Text, "..")
	if !ok {
		b.problem(arg.Pos, "%s: backoff %q is not a range; write the shortest and the longest wait, as in 1s..10m", p, arg.Text)
		return 0, 0
	}
	before := len(b.problems)
	low = b.duration(p, Word{from, arg.Pos}, false)
	high = b.duration(p, Word{to, arg.Pos + token.Pos(len(from)+len(".."))}, false)
	if len(b.problems) == before && low > high {
		b.problem(arg.Pos, "%s: the shortest wait %s is longer than the longest %s", p, from, to)
	}
	return low, high
}

func applyTags(b *builder, p *parts) {
	for _, arg := range p.words {
		switch why := naming.Problem(arg.Text); {
		case why != "":
			b.problem(arg.Pos, "%s: %s", p, why)
		case slices.Contains(b.options.Tags, arg.Text):
			b.problem(arg.Pos, "%s: %s is repeated", p, arg.Text)
		default:
			b.options.Tags = append(b.options.Tags, arg.Text)
		}
	}
}
