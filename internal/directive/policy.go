package directive

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	maxConcurrency = 1_000_000
	maxRate        = 1_000_000_000

	// A child process takes about 12 MiB before it does any work.
	minMemory = 16 << 20
)

func applyUnique(b *builder, p *parts) {
	b.options.Unique = &Unique{For: b.duration(p, p.words[0], false), By: b.by(p)}
	if until, ok := p.keys["until"]; ok {
		b.options.Unique.UntilStart = until.Text == "start"
		if !b.options.Unique.UntilStart {
			b.problem(until.Pos, "%s: until=%s is unknown; write until=start, or omit it to hold the key until the end of the run", p, until.Text)
		}
	}
}

func applyConcurrency(b *builder, p *parts) {
	b.options.Concurrency = &Concurrency{Max: b.number(p, p.words[0], "runs", maxConcurrency), By: b.by(p)}
}

// applyRate parses a number of starts and the time in which they are counted.
func applyRate(b *builder, p *parts) {
	arg := p.words[0]
	n, per, ok := strings.Cut(arg.Text, "/")
	if !ok {
		b.problem(arg.Pos, "%s: %q is not a rate; write a number of starts and a time, as in 100/1m", p, arg.Text)
		return
	}
	b.options.Rate = &Rate{
		Max: b.number(p, Word{n, arg.Pos}, "starts", maxRate),
		Per: b.duration(p, Word{per, arg.Pos + tokenPos(n+"/")}, false),
		By:  b.by(p),

		Smooth: len(p.flags) > 0,
	}
}

func applyFair(b *builder, p *parts) {
	if b.path(p, p.words[0]) {
		b.options.Fair = &p.words[0]
	}
}

// number parses an integer from 1 to high.
func (b *builder) number(p *parts, arg Word, what string, high int) int {
	n, err := strconv.Atoi(arg.Text)
	if err != nil || n < 1 || n > high {
		b.problem(arg.Pos, "%s: %q is not a number of %s; write 1 to %d", p, arg.Text, what, high)
		return 0
	}
	return n
}

// sizes matches a size in powers of 1024.
var sizes = regexp.MustCompile(`^([0-9]+)(KiB|MiB|GiB|TiB)$`)

func applyMemory(b *builder, p *parts) {
	arg := p.words[0]
	m := sizes.FindStringSubmatch(arg.Text)
	if m == nil {
		b.problem(arg.Pos, "%s: %q is not a size; write a whole number with KiB, MiB, GiB or TiB, as in 512MiB", p, arg.Text)
		return
	}
	shift := map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[m[2]]
	n, err := strconv.ParseInt(m[1], 10, 64)
	switch {
	case err != nil || n > math.MaxInt64>>shift:
		b.problem(arg.Pos, "%s: %s is more than a machine has", p, arg.Text)
	case n == 0:
		b.problem(arg.Pos, "%s: %s is not above zero", p, arg.Text)
	case n<<shift < minMemory:
		b.problem(arg.Pos, "%s: a child process does not start in %s; write at least %dMiB", p, arg.Text, minMemory>>20)
	default:
		b.options.Memory = n << shift
	}
}

var validVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func applyEnv(b *builder, p *parts) {
	arg := p.words[0]
	key, _, ok := strings.Cut(arg.Text, "=")
	switch {
	case !ok || !validVariable.MatchString(key):
		b.problem(arg.Pos, "%s: %q is not KEY=value", p, arg.Text)
	case strings.HasPrefix(key, "TASKGEN_"):
		b.problem(arg.Pos, "%s: the variables TASKGEN_… belong to the runtime", p)
	case slices.ContainsFunc(b.options.Env, func(other string) bool { return strings.HasPrefix(other, key+"=") }):
		b.problem(arg.Pos, "%s: %s is set twice", p, key)
	default:
		b.options.Env = append(b.options.Env, arg.Text)
	}
}
